"""The output of ``usher dev`` and ``usher demo`` fits a terminal, and can be copied from it."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from usher.cli.demo.credentials import Credentials
from usher.cli.demo.setup import SetUp, Step
from usher.cli.output import RunningSteps, say, show_rows, show_step
from usher.contract.editions import MITXONLINE

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
    for number in range(20):  # secrets are random: one may lack other characters by chance
        (tmp_path / str(number)).mkdir()
        credentials = asdict(Credentials.load_or_make(tmp_path / str(number)))
        assert all(secret.isascii() and secret.isalnum() for secret in credentials.values())
        assert {len(credentials[name]) for name in credentials if "password" in name} == {20}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_is_named_when_it_begins_on_a_terminal_and_in_a_pipe() -> None:
    step = Step(id="lms-database", ok=True, seconds=52.0, detail="tables")
    outputs = []
    for file in (Terminal(), io.StringIO()):
        console = Console(file=file, force_terminal=True, width=80, color_system=None)
        with RunningSteps(console) as running:
            running.begin("lms-database")
            running.begin("application-database")
            running.end(step.id)
            show_step(step, console)
        outputs.append(file.getvalue())
    on_terminal, in_pipe = outputs
    assert "running: application-database" in on_terminal
    assert in_pipe.splitlines() == [
        "  … begun  lms-database",
        "  … begun  application-database",
        "  ✓ ok     lms-database               52.0 s  tables",
    ]


class PreparedPair:
    """A pair whose records exist; the application's OAuth client is corrected."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.edition = MITXONLINE
        self.env_file = home / ".env"
        self.lms_url = self.application_url = "http://127.0.0.1:9"

    def initialize_lms(self) -> None:
        pass

    def manage_lms(self, *arguments: str, stdin: str) -> str:
        return json.dumps({"changed": 0})

    def manage_application(self, *arguments: str, extra: dict[str, str]) -> str:
        assert "--json" in arguments
        return json.dumps({"created_users": [], "client_changed": True})


def test_provision_says_what_it_changed_in_the_application_and_in_the_lms(tmp_path: Path) -> None:
    pair: Any = PreparedPair(tmp_path)
    begun: list[str] = []
    steps: list[Step] = []
    SetUp(pair, steps.append, begun.append).restore()
    assert begun == [step.id for step in steps]
    details = {step.id: step.detail for step in steps}
    assert details["lms-provisioning"].endswith("0 changed in the LMS")
    assert details["application-oauth-record"].endswith("1 changed in the application")
    assert details["application-settings"].endswith("to the .env of the reference application")
