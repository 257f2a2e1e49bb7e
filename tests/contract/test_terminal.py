"""Lines that fit a terminal of 80 columns."""

from usher.contract.terminal import WIDTH, wrapped


def test_text_is_indented_behind_what_stands_before_it() -> None:
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
