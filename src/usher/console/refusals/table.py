"""Refused records as CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice

from asgiref.sync import sync_to_async

from usher.console.refusals.services import Example
from usher.contract.spreadsheets import cell

HEADER = ("record", "learner", "course_run", "code", "message", "refused_at")
#: Lines that an ASGI server gets at once.
_LINES = 500


class _Echo:
    """A file object that returns what is written to it."""

    def write(self, text: str) -> str:
        return text


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


async def for_asgi(found: Iterator[str]) -> AsyncIterator[str]:
    """The same lines for an ASGI server: Django would keep all lines of a usual iterator in memory.
    The lines are read in the thread of the request, which may use the database."""
    read = sync_to_async(lambda: "".join(islice(found, _LINES)))
    while text := await read():
        yield text
