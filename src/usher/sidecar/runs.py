"""Copies titles and dates of course runs from the LMS, as the application's own sync does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from usher.client.client import LmsClient
from usher.client.errors import LmsError, NotThere
from usher.client.payloads import RunSeen, moment, read_run
from usher.contract.limits import COURSE_LIST_PAGE_SIZE
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.learners import runs
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import Memory, Outcome
from usher.sidecar.overlapping import overlapped

RUN = "run"
#: Concurrent requests to the LMS.
_AT_ONCE = 8
#: Course keys that both applications' own code requests, in the platform's characters. One
#: malformed key would make a whole request fail.
_KEY = re.compile(r"course-v1:[\w\-~.:]+\+[\w\-~.:]+\+[\w\-~.:]+")
_MOMENTS = ("start", "end", "enrollment_start", "enrollment_end", "certificate_available")


@dataclass(frozen=True)
class ComparedRun:
    """row: the application's run, with the sidecar's names. seen: None if the LMS does not list it.
    changes: the sidecar's name → the LMS's value, where they differ. error: why the LMS's data of
    the run can't be read."""

    row: dict[str, Any]
    seen: RunSeen | None
    changes: dict[str, Any]
    error: LmsError | None = None


def is_key(text: str) -> bool:
    return bool(_KEY.fullmatch(text))


def selected(
    sides: Opened, only: str = "", changed_in: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the runs that the application's own sync updates. only: the key of one, '' for all.
    changed_in: only those that the application changed in the last so many seconds; None for
    all."""
    found = sides.adapter.runs_taken
    if only:
        found = found.also({sides.adapter.runs.columns["course"]: only})
    if changed_in is not None:
        found = found.also(sides.adapter.changed_runs(changed_in))
    return runs(sides.agent, sides.adapter, only=found)


def to_compare(
    sides: Opened, kind: str, only: str, changed_in: float | None, memory: Memory | None
) -> Iterator[dict[str, Any]]:
    """Yields runs as ``selected`` does. memory: with ``changed_in``, leaves out runs that have not
    changed since they agreed with the LMS."""
    for row in selected(sides, only, changed_in):
        if changed_in is None or memory is None or not memory.is_right(kind, row["pk"], row):
            yield row


def compared(
    sides: Opened, only: str = "", changed_in: float | None = None, memory: Memory | None = None
) -> Iterator[list[ComparedRun]]:
    """Yields pages of the runs of ``to_compare`` with the LMS's data, one page for each request."""
    rows = to_compare(sides, RUN, only, changed_in, memory)
    pages = iter(lambda: list(islice(rows, COURSE_LIST_PAGE_SIZE)), [])
    with overlapped(lambda page: _page(sides, page), pages, _AT_ONCE) as results:
        yield from results


def _page(sides: Opened, rows: list[dict[str, Any]]) -> list[ComparedRun]:
    seen = _seen(sides.lms, [row["course"] for row in rows if is_key(row["course"])])
    return [_compared(sides.adapter, row, seen.get(row["course"])) for row in rows]


def _seen(lms: LmsClient, keys: list[str]) -> dict[str, RunSeen | LmsError]:
    if not keys:
        return {}
    try:
        listed = lms.runs_page(1, keys)
    except NotThere:
        return {}
    found: dict[str, RunSeen | LmsError] = {}
    for raw in listed.results:
        try:
            run = read_run(raw)
        except LmsError as error:
            # The others of the page are still compared.
            found[str(raw.get("course_id"))] = error
        else:
            found[run.course_key] = run
    return found


def _compared(
    adapter: Adapter, row: dict[str, Any], seen: RunSeen | LmsError | None
) -> ComparedRun:
    if seen is None:
        return ComparedRun(row, None, {})
    if isinstance(seen, LmsError):
        return ComparedRun(row, None, {}, seen)
    # A run without a certificate date of its own has its end date, as in the applications' code.
    there: dict[str, Any] = {
        "title": seen.title,
        "start": seen.start,
        "end": seen.end,
        "enrollment_start": seen.enrollment_start,
        "enrollment_end": seen.enrollment_end,
        "self_paced": seen.pacing == "self",
        "certificate_available": seen.certificate_available or seen.end,
    }
    known = {name: there[name] for name in there if name in adapter.runs.columns}
    return ComparedRun(row, seen, {n: v for n, v in known.items() if here(row, n) != v})


def content_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the values of a row that are compared."""
    return tuple(map(str, row.values()))


def here(row: dict[str, Any], name: str) -> Any:
    return moment(row[name]) if name in _MOMENTS else row[name]


def shown(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    return "none" if value is None else repr(value)


def reconcile_runs(
    sides: Opened, outcome: Outcome, only: str = "", changed_in: float | None = None
) -> None:
    """Writes differences with the model's own ``save`` and validation."""
    for page in compared(sides, only, changed_in, outcome.memory):
        for found in page:
            if found.error is not None:
                outcome.add_error(RUN, found.row["course"], found.error)
        if changed_in is not None:
            for found in page:
                if not found.changes and found.error is None:
                    outcome.memory.found_right(RUN, found.row["pk"], found.row)
        due = [
            found
            for found in page
            if found.changes and outcome.memory.is_due(RUN, content_of(found.row))
        ]
        if due:
            _write(sides, due, outcome)
        outcome.told()


def count_differing(sides: Opened, only: str = "") -> int:
    return sum(bool(found.changes) for page in compared(sides, only) for found in page)


def _write(sides: Opened, due: list[ComparedRun], outcome: Outcome) -> None:
    columns = sides.adapter.runs.columns
    rows = []
    for found in due:
        wanted = {columns[name]: value for name, value in found.changes.items()}
        if {"start", "end"} & set(found.changes):
            # The application calculates it again; its validation would refuse a date before the
            # end.
            wanted[columns["expiration"]] = None
        expected = {path: found.row[name] for name, path in columns.items() if path in wanted}
        values = {
            path: value.isoformat() if isinstance(value, datetime) else value
            for path, value in wanted.items()
        }
        rows.append({"pk": found.row["pk"], "expect": expected, "set": values})
    results = sides.agent.ask("write", model=sides.adapter.runs.model, rows=rows)
    for found, result in zip(due, results, strict=True):
        outcome.add_written(RUN, found.row["course"], result, content_of(found.row))
