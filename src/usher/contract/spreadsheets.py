"""Cells of CSV files that are safe to open in a spreadsheet."""

from __future__ import annotations

#: A spreadsheet reads a cell as a formula if it begins with one of these, even after blanks.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_BLANKS = " \u00a0"


def safe_cell(value: object) -> str:
    """The value as text, with an apostrophe in front if a spreadsheet would read it as a
    formula."""
    text = str(value)
    return f"'{text}" if text.lstrip(_BLANKS).startswith(_FORMULA) else text


def text_of_cell(cell: str) -> str:
    """The text of a cell of a file, without the apostrophe that ``safe_cell`` added."""
    plain = cell.removeprefix("'")
    return plain if plain.lstrip(_BLANKS).startswith(_FORMULA) else cell
