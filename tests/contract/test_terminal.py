"""Lines that fit a terminal of 80 columns."""

import pytest

from usher.contract.terminal import WIDTH, printable, wrapped
from usher.doctor.check import failed, note, ok, warning


def test_wrapped_lines_are_indented_by_the_given_columns() -> None:
    told = "  ✓ ok  " + wrapped("a word and another " * 10, 8)
    lines = told.splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    assert all(line.startswith(" " * 8) for line in lines[1:])
    assert " ".join(told.split()) == "✓ ok " + " ".join(["a word and another"] * 10)


def test_addresses_stay_whole_and_own_lines_stay() -> None:
    address = "http://lms.example/" + "x" * 90
    assert wrapped(f"see {address}\nthen go on", 4).splitlines() == [
        "see",
        f"    {address}",
        "    then go on",
    ]
    assert wrapped("", 4) == ""


#: Sequences that write to the clipboard, set the title, move the cursor, set colours, reverse text,
#: or add a line.
STEERING = (
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


@pytest.mark.parametrize("text", STEERING, ids=ascii)
def test_quoted_text_can_not_control_the_terminal(text: str) -> None:
    """A learner or a course may have such a name."""
    findings = (
        ok(text),
        note(text, cause=text),
        warning(text, cause=text, fix=text),
        failed(text, cause=text, fix=text),
    )
    shown = [printable(text), wrapped(text, 4)]
    shown += [part for found in findings for part in (found.seen, found.cause, found.fix)]
    assert all(char.isprintable() or char == "\n" for each in shown for char in each)
    assert "�" in printable(text)


def test_colour_codes_in_output_are_removed() -> None:
    assert printable("\x1b[2m12:00\x1b[0m [\x1b[32m\x1b[1minfo\x1b[0m] up") == "12:00 [info] up"
    assert printable("\x1b[\x1b[0m2J") == "�[2J"


def test_ordinary_text_is_not_changed() -> None:
    assert printable("Łukasz 李\r\nname\tand more") == "Łukasz 李\nname and more"
