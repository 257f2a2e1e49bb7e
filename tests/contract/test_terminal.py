"""Lines that fit a terminal of 80 columns."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import usher
from usher.contract.terminal import WIDTH, as_typed, command_line, printable, wrap
from usher.doctor.check import failed, note, ok, warning


def test_wrapped_lines_are_indented_by_the_given_columns() -> None:
    wrapped = "  ✓ ok  " + wrap("a word and another " * 10, indent=8)
    lines = wrapped.splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    assert all(line.startswith(" " * 8) for line in lines[1:])
    assert " ".join(wrapped.split()) == "✓ ok " + " ".join(["a word and another"] * 10)


def test_addresses_are_not_broken_and_line_breaks_are_kept() -> None:
    address = "http://lms.example/" + "x" * 90
    assert wrap(f"see {address}\nthen go on", indent=4).splitlines() == [
        "see",
        f"    {address}",
        "    then go on",
    ]
    assert wrap("", indent=4) == ""


#: Commands by their length: one that fits behind the indentation, one that fits on a line, and one
#: that does not.
SHORT = "$ usher dev"
MEDIUM = "$ rm -r /srv/projects/a-shop-with-a-long-name/.usher/dev/lms"
LONG = "(cd '/srv/a shop' && set -a && . ./.env && DAY='a b' python manage.py why \"x y\" --json)"


@pytest.mark.parametrize("command", [SHORT, MEDIUM], ids=["short", "medium"])
@pytest.mark.parametrize("indent", [0, 4, 36, 60])
def test_a_command_that_fits_a_line_stays_on_a_line_of_its_own(command: str, indent: int) -> None:
    first, line = wrap(f"start it:\n{command}", indent).splitlines()
    assert first == "start it:"
    assert line.strip() == command
    assert len(line) == min(indent + len(command), WIDTH)


def test_a_long_command_at_the_beginning_of_a_text_starts_on_the_next_line() -> None:
    """The caller has already written ``indent`` columns of the first line. Only a command that fits
    behind these columns stays on that line."""
    assert wrap(SHORT, indent=24) == SHORT
    output = "  ✗ APP-1  " + wrap(f"`{LONG}`", indent=11)
    assert output == "  ✗ APP-1  \n" + command_line(f"$ {LONG}", indent=11)
    assert all(len(line) <= WIDTH for line in output.splitlines())


def test_a_shell_reads_a_command_of_several_lines_as_the_same_command() -> None:
    lines = command_line(LONG, indent=24).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= WIDTH for line in lines)
    # The shell prints the words instead of running them.
    words = LONG.strip("()").replace("&&", "and")
    command = command_line(f"printf '%s\\n' {words}", indent=24)
    assert "\\\n" in command, "the command has several lines"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == shlex.split(words)


def test_a_command_with_an_open_quote_is_not_split() -> None:
    command = "echo 'never closed " + "x" * 80
    assert command_line(command, indent=24) == f"  {command}"


def test_no_line_ends_with_spaces() -> None:
    assert wrap("one\n\ntwo", indent=4) == "one\n\n    two"


def test_continuations_have_the_indentation_of_their_line() -> None:
    """Errors contain indented lines if they quote a log."""
    lines = wrap("The log:\n  " + "a word and another " * 10, indent=7).splitlines()
    assert len(lines) > 3
    assert all(len(line) <= WIDTH for line in lines)
    indentations = {len(line) - len(line.lstrip()) for line in lines[1:]}
    assert indentations == {7 + 2}, "the given columns, and the two of the line itself"


#: Characters that write to the clipboard, set the title, move the cursor, set colours, reverse
#: text, or begin a line.
CONTROLLING_TEXTS = (
    "\x1b]52;c;cm0gLXJmIH4=\x07",
    "\x1b]0;title\x1b\\",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\r✓ all is well",
    "\x00",
    "\u2028",
)


@pytest.mark.parametrize("text", CONTROLLING_TEXTS, ids=ascii)
def test_text_with_control_characters_can_not_control_the_terminal(text: str) -> None:
    """The name of a learner or a course may contain such characters."""
    findings = (
        ok(text),
        note(text, cause=text),
        warning(text, cause=text, fix=text),
        failed(text, cause=text, fix=text),
    )
    shown_texts = [printable(text), wrap(text, indent=4)]
    for finding in findings:
        shown_texts += [finding.seen, finding.cause, finding.fix]
    assert all(char.isprintable() or char == "\n" for char in "".join(shown_texts))
    assert "�" in printable(text)


def test_colour_codes_in_output_are_removed() -> None:
    assert printable("\x1b[2m12:00\x1b[0m [\x1b[32m\x1b[1minfo\x1b[0m] up") == "12:00 [info] up"
    # Without the code inside it, the rest would be a code that clears the screen.
    assert printable("\x1b[\x1b[0m2J") == "�[2J"


def test_ordinary_text_is_not_changed() -> None:
    assert printable("Łukasz 李\r\nname\tand more") == "Łukasz 李\nname and more"


def test_a_short_command_is_not_broken_and_a_long_command_has_a_line_of_its_own() -> None:
    short = "a word and another " * 3 + "now run `usher dev --once` again, and go on with it"
    wrapped = wrap(short, indent=10)
    assert "`usher dev --once`" in wrapped
    assert "\n" in wrapped
    command = "python manage.py " + "x" * 40 + " --all"
    lines = wrap(f"First look, then run: `{command}`. Then go on.", indent=4).splitlines()
    assert lines == ["First look, then run:", f"    $ {command}", "    Then go on."]
    assert wrap(f"Run: `{command}`", indent=4).splitlines() == ["Run:", f"    $ {command}"]


@pytest.fixture
def outside_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a virtual environment that is not on PATH; it is the current folder."""
    program = tmp_path / ".venv" / "bin" / "usher"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.parent / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    ["Run `usher doctor`.", "Name it:\n$ usher doctor --application FOLDER"],
    ids=["inline", "line"],
)
def test_usher_is_named_by_its_path_if_it_is_not_on_path(outside_path: Path, text: str) -> None:
    assert wrap(text, 0) == text.replace("usher", ".venv/bin/usher")


def test_a_short_command_stays_in_its_sentence_also_with_its_path(
    outside_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "usher.contract.terminal._usher_program", lambda: "/srv/shop/venv/bin/usher"
    )
    wrapped = wrap("Run `usher dev` or `usher connect`, or set them in the .env file.", 0)
    assert wrapped.splitlines() == [
        "Run `/srv/shop/venv/bin/usher dev` or `/srv/shop/venv/bin/usher connect`, or set",
        "them in the .env file.",
    ]
    # A command that does not fit gets a line of its own.
    monkeypatch.setattr("usher.contract.terminal._usher_program", lambda: "/srv" * 15 + "/usher")
    assert wrap("Run `usher dev` first.", 0) == f"Run\n$ {'/srv' * 15}/usher dev\nfirst."


def test_usher_is_named_so_that_it_can_be_typed_in_the_current_folder(
    outside_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outside_path / "elsewhere").mkdir()
    monkeypatch.chdir(outside_path / "elsewhere")
    assert as_typed("usher doctor") == f"{outside_path}/.venv/bin/usher doctor"
    assert command_line("$ usher dev", 2) == f"  $ {outside_path}/.venv/bin/usher dev"


def test_usher_on_path_is_named_by_its_name(
    outside_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(outside_path / ".venv" / "bin"))
    assert wrap("Run `usher doctor`.", 0) == "Run `usher doctor`."


SOURCE = Path(usher.__path__[0])
#: Packages whose texts are shown where ``usher`` is installed; others run inside the LMS.
PACKAGES_IN_SHELL = ("cli", "client", "connect", "doctor", "journey", "sidecar")


def texts_in_code(package: str) -> Iterator[str]:
    """The texts in the package's code, without its docstrings. Without those of doctor's checks,
    whose fixes ``split_into_commands`` reads."""
    for file in {*(SOURCE / package).rglob("*.py")} - {*(SOURCE / "doctor/checks").glob("*.py")}:
        tree = ast.parse(file.read_text())
        docstrings = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_text and id(node) not in docstrings:
                yield node.value


@pytest.mark.parametrize("package", PACKAGES_IN_SHELL)
def test_texts_mark_a_command_of_usher_so_that_it_is_printed_as_it_can_be_typed(
    package: str,
) -> None:
    pattern = re.compile(r"(\b([Rr]un|or)|[;:]) usher [a-z]")
    assert [text for text in texts_in_code(package) if pattern.search(text)] == []
