"""Refused records as CSV that is safe to open in a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice

from asgiref.sync import sync_to_async

from usher.console.refusals.services import Refusal
from usher.contract.spreadsheets import safe_cell

HEADER = ("record", "learner", "course_run", "code", "message", "refused_at")
#: The number of lines that are passed to an ASGI server at a time.
_LINES_AT_A_TIME = 500


class _Echo:
    """A file object whose ``write`` returns the text, so that ``writerow`` returns the line."""

    def write(self, text: str) -> str:
        return text


def lines(kind: str, code: str, records: Iterable[Refusal]) -> Iterator[str]:
    """The lines of the table as CSV, the header first. A spreadsheet reads no value as a
    formula."""
    writer = csv.writer(_Echo())
    yield writer.writerow(HEADER)
    for record in records:
        row = (
            f"{kind} {record.pk}",
            record.learner_name,
            record.course_key,
            code,
            record.message,
            record.refused_at.isoformat(timespec="seconds"),
        )
        yield writer.writerow([safe_cell(value) for value in row])


async def for_asgi(lines_of_table: Iterator[str]) -> AsyncIterator[str]:
    """Yields the same lines for an ASGI server. Django would keep all lines of a synchronous
    iterator in memory. The lines are read in the thread of the request, which may use the
    database."""

    def read_next_lines() -> str:
        return "".join(islice(lines_of_table, _LINES_AT_A_TIME))

    read = sync_to_async(read_next_lines)
    while text := await read():
        yield text
