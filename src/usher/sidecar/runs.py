"""Copies titles and dates of course runs from the LMS, as the application's own sync does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from usher.client.client import LmsClient
from usher.client.errors import LmsError, NotThere
from usher.client.payloads import ObservedRun, moment, read_run
from usher.contract.limits import COURSE_LIST_PAGE_SIZE
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.learners import read_runs
from usher.sidecar.parallel import in_parallel
from usher.sidecar.session import Session
from usher.sidecar.summary import INVALID, RowMemory, Summary

T = TypeVar("T")
RUN = "run"
#: Concurrent requests to the LMS.
_CONCURRENCY = 8
#: The form of the course keys that both applications' own code requests, with the characters that
#: the platform allows. One malformed key would make a whole request fail.
_KEY = re.compile(r"course-v1:[\w\-~.:]+\+[\w\-~.:]+\+[\w\-~.:]+")
#: The sidecar's names of the values that are times.
_MOMENTS = ("start", "end", "enrollment_start", "enrollment_end", "certificate_available")


@dataclass(frozen=True)
class ComparedRun:
    """row: the application's run, with the sidecar's names. in_lms: the LMS's run; None if the LMS
    does not list it. changes: the sidecar's name → the LMS's value, where they differ. error: why
    the LMS's data of the run can't be read. refusal: why the application's own rules refuse the
    changes, as MIT xPro does once a run has started and its enrollment has ended; '' if the rules
    allow the changes."""

    row: dict[str, Any]
    in_lms: ObservedRun | None
    changes: dict[str, Any]
    error: LmsError | None = None
    refusal: str = ""

    @property
    def is_due(self) -> bool:
        """Whether there are changes that the application accepts."""
        return bool(self.changes) and not self.refusal


def is_course_key(text: str) -> bool:
    return bool(_KEY.fullmatch(text))


def select_runs(
    session: Session, *, only_run: str = "", changed_within_seconds: float | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the runs that the application's own sync updates. only_run: the key of one run; '' for
    all. changed_within_seconds: only runs that the application changed in that time; None for
    all."""
    selection = session.adapter.eligible_runs
    if only_run:
        selection = selection.narrowed_by({session.adapter.runs.columns["course"]: only_run})
    if changed_within_seconds is not None:
        selection = selection.narrowed_by(session.adapter.changed_runs(changed_within_seconds))
    return read_runs(session.agent, session.adapter, selection=selection)


def select_runs_to_compare(
    session: Session,
    kind: str,
    *,
    only_run: str,
    changed_within_seconds: float | None,
    memory: RowMemory | None,
) -> Iterator[dict[str, Any]]:
    """Yields runs as ``select_runs`` does. memory: used with ``changed_within_seconds``, to leave
    out runs that have not changed since they agreed with the LMS."""
    rows = select_runs(session, only_run=only_run, changed_within_seconds=changed_within_seconds)
    if changed_within_seconds is None or memory is None:
        yield from rows
        return
    for row in rows:
        if not memory.has_agreed_with_lms(kind, row["pk"], row):
            yield row


def compare_runs(
    session: Session,
    *,
    only_run: str = "",
    changed_within_seconds: float | None = None,
    memory: RowMemory | None = None,
) -> Iterator[list[ComparedRun]]:
    """Yields pages of the runs of ``select_runs_to_compare`` with the LMS's data, one page for each
    request."""
    rows = select_runs_to_compare(
        session,
        RUN,
        only_run=only_run,
        changed_within_seconds=changed_within_seconds,
        memory=memory,
    )

    def compare_page(page: list[dict[str, Any]]) -> list[ComparedRun]:
        return _compare_page(session, page)

    pages = pages_of(rows, COURSE_LIST_PAGE_SIZE)
    with in_parallel(compare_page, pages, concurrency=_CONCURRENCY) as compared_pages:
        for compared_page in compared_pages:
            yield _add_refusals(session, compared_page)


def pages_of(rows: Iterator[T], page_size: int) -> Iterator[list[T]]:
    """Yields lists of ``page_size`` rows; the last one may be shorter. Reads the rows only when
    they are needed."""
    while page := list(islice(rows, page_size)):
        yield page


def _add_refusals(session: Session, page: list[ComparedRun]) -> list[ComparedRun]:
    """Returns the runs with ``refusal`` set, according to the application's own validation."""
    changed_runs = [run for run in page if run.changes]
    if not changed_runs:
        return page
    table = session.adapter.runs
    rows = [_write_request(table.columns, run) for run in changed_runs]
    answers = session.agent.ask("refusals", model=table.model, rows=rows)
    refusals = {}
    for run, reason in zip(changed_runs, answers, strict=True):
        refusals[run.row["pk"]] = reason or ""
    return [replace(run, refusal=refusals.get(run.row["pk"], "")) for run in page]


def _compare_page(session: Session, rows: list[dict[str, Any]]) -> list[ComparedRun]:
    keys = [row["course"] for row in rows if is_course_key(row["course"])]
    lms_runs = _read_runs_of_lms(session.lms, keys)
    return [_compare_run(session.adapter, row, lms_runs.get(row["course"])) for row in rows]


def _read_runs_of_lms(lms: LmsClient, keys: list[str]) -> dict[str, ObservedRun | LmsError]:
    """Returns course key → run, or the error of reading its data; without runs that the LMS does
    not list. Raises LmsError if the request fails."""
    if not keys:
        return {}
    try:
        # ``compare_runs`` passes no more keys than one page of the LMS's list holds.
        page = lms.runs_page(page=1, keys=keys)
    except NotThere:
        return {}
    lms_runs: dict[str, ObservedRun | LmsError] = {}
    for raw in page.results:
        try:
            run = read_run(raw)
        except LmsError as error:
            # The other runs of the page are still compared.
            lms_runs[str(raw.get("course_id"))] = error
        else:
            lms_runs[run.course_key] = run
    return lms_runs


def _compare_run(
    adapter: Adapter, row: dict[str, Any], lms_run: ObservedRun | LmsError | None
) -> ComparedRun:
    if lms_run is None:
        return ComparedRun(row, in_lms=None, changes={})
    if isinstance(lms_run, LmsError):
        return ComparedRun(row, in_lms=None, changes={}, error=lms_run)
    # If a run has no certificate date of its own, its end date counts, as in the applications' own
    # code.
    lms_values: dict[str, Any] = {
        "title": lms_run.title,
        "start": lms_run.start,
        "end": lms_run.end,
        "enrollment_start": lms_run.enrollment_start,
        "enrollment_end": lms_run.enrollment_end,
        "self_paced": lms_run.pacing == "self",
        "certificate_available": lms_run.certificate_available or lms_run.end,
    }
    changes = {}
    for name, lms_value in lms_values.items():
        has_column = name in adapter.runs.columns
        if has_column and own_value(row, name) != lms_value:
            changes[name] = lms_value
    return ComparedRun(row, in_lms=lms_run, changes=changes)


def retry_key_of(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the values of the row. If one of them changes, a refused run is tried again."""
    return tuple(map(str, row.values()))


def own_value(row: dict[str, Any], name: str) -> Any:
    """Returns a value of the application's run, in the type of the LMS's value."""
    return moment(row[name]) if name in _MOMENTS else row[name]


def as_text(value: Any) -> str:
    """Returns a value of a run for a sentence: a time without seconds, ``none`` for None."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    return "none" if value is None else repr(value)


def refusal_text(title: str, run: ComparedRun) -> str:
    """Returns a sentence about a run whose changes the application refuses: the decision that a
    person must make."""
    return (
        f"{title} does not accept the LMS's values: {run.refusal.rstrip('.')}. Change the dates "
        "of the run in the LMS, or leave it as it is"
    )


def reconcile_runs(
    session: Session,
    summary: Summary,
    *,
    only_run: str = "",
    changed_within_seconds: float | None = None,
) -> None:
    """Copies what differs from the LMS to the application's runs, with the model's own ``save`` and
    validation. only_run, changed_within_seconds: as for ``select_runs``."""
    memory = summary.row_memory
    is_quick_pass = changed_within_seconds is not None
    pages = compare_runs(
        session, only_run=only_run, changed_within_seconds=changed_within_seconds, memory=memory
    )
    for page in pages:
        runs_to_write = []
        for run in page:
            course = run.row["course"]
            retry_key = retry_key_of(run.row)
            if run.error is not None:
                summary.add_error(RUN, course, run.error)
                continue
            if is_quick_pass and not run.is_due:
                # Also if the changes are refused: quick passes need not compare the run again.
                memory.record_agreement(RUN, run.row["pk"], run.row)
            if not memory.is_due(RUN, retry_key):
                continue
            if run.refusal:
                text = refusal_text(session.adapter.title, run)
                summary.add(RUN, INVALID, course, text, retry_key=retry_key)
            elif run.is_due:
                runs_to_write.append(run)
        if runs_to_write:
            _write(session, runs_to_write, summary)
        summary.report_progress()


def count_differing(session: Session, only_run: str = "") -> int:
    """Counts the runs whose changes the application accepts."""
    number = 0
    for page in compare_runs(session, only_run=only_run):
        number += sum(run.is_due for run in page)
    return number


def _write(session: Session, due: list[ComparedRun], summary: Summary) -> None:
    rows = [_write_request(session.adapter.runs.columns, run) for run in due]
    results = session.agent.ask("write", model=session.adapter.runs.model, rows=rows)
    for run, result in zip(due, results, strict=True):
        summary.add_write(RUN, run.row["course"], result, retry_key_of(run.row))


def _write_request(columns: Mapping[str, str], run: ComparedRun) -> dict[str, Any]:
    """Returns the changes of a run as the agent writes them."""
    changes = dict(run.changes)
    if "start" in changes or "end" in changes:
        # The application calculates the expiration date again; its validation would refuse an
        # expiration date before the end date.
        changes["expiration"] = None
    expected, new_values = {}, {}
    for name, value in changes.items():
        column = columns[name]
        expected[column] = run.row[name]
        new_values[column] = value.isoformat() if isinstance(value, datetime) else value
    return {"pk": run.row["pk"], "expect": expected, "set": new_values}
