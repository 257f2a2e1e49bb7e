"""The output of ``usher dev`` and ``usher demo`` fits a terminal, and can be copied from it."""

import io
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from usher.cli.demo.credentials import Credentials
from usher.cli.demo.setup import Step
from usher.cli.output import say, show_rows, show_step

SENTENCE = "the quick brown fox [jumps] over the lazy dog " * 6


def test_lines_have_at_most_80_columns_on_a_wider_terminal() -> None:
    console = Console(file=io.StringIO(), width=200)
    say(console, SENTENCE)
    say(console, SENTENCE, title="usher dev")
    show_step(
        Step(
            id="lms", ok=True, seconds=1.0, detail=f"{SENTENCE}\n$ rm -r /srv/a-shop/.usher/dev/lms"
        ),
        console,
        width=9,
    )
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line != line.rstrip()] == []
    columns_before_detail = len("  ✓ failed ") + 9 + len("   0.1 s  ")
    assert f"{' ' * columns_before_detail}$ rm -r /srv/a-shop/.usher/dev/lms" in lines


def test_a_long_value_of_a_row_is_not_wrapped() -> None:
    console = Console(file=io.StringIO(), width=80)
    show_rows([("sign in", "http://127.0.0.1/" + "x" * 90), ("LMS", "[b]")], console)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "",
        "  sign in  http://127.0.0.1/" + "x" * 90,
        "  LMS      [b]",
    ]


def test_secrets_have_letters_and_digits_only(tmp_path: Path) -> None:
    """A word that begins with ``-`` would be an option in a shell."""
    for number in range(20):  # secrets are random: a single one may have letters only by chance
        (tmp_path / str(number)).mkdir()
        credentials = asdict(Credentials.load_or_make(tmp_path / str(number)))
        assert all(secret.isascii() and secret.isalnum() for secret in credentials.values())
        assert {len(credentials[name]) for name in credentials if "password" in name} == {20}
