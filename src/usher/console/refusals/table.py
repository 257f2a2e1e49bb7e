"""Refusals as CSV, safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from usher.console.refusals.services import Example

HEADER = ("record", "learner", "course_run", "code", "message", "refused_at")
#: A cell that begins with one of these is a formula to spreadsheets; after blanks, too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class _Echo:
    """A file that gives back what is written to it."""

    def write(self, text: str) -> str:
        return text


def cell(value: object) -> str:
    """As text: an apostrophe before what a spreadsheet would calculate."""
    text = str(value)
    return f"'{text}" if text.lstrip(" \u00a0").startswith(_FORMULA) else text


def lines(kind: str, code: str, found: Iterable[Example]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(HEADER)
    for one in found:
        row = (
            f"{kind} {one.pk}",
            one.who,
            one.where,
            code,
            one.message,
            one.parked_at.isoformat(timespec="seconds"),
        )
        yield writer.writerow([cell(value) for value in row])
