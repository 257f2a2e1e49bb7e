"""Copies the modes in which the LMS offers a course run, as the application's own code does. No
mode is ever removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import ObservedMode, moment, read_modes, reading
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import ModeTables
from usher.sidecar.parallel import in_parallel
from usher.sidecar.process import MOST_ROWS
from usher.sidecar.runs import is_course_key, retry_key_of, select_runs_to_compare
from usher.sidecar.session import Session
from usher.sidecar.summary import RowMemory, Summary

RUN_MODE = "run-mode"
#: Runs that are compared, and whose differences are written, together.
_RUNS_A_PAGE = 100


@dataclass(frozen=True)
class ComparedModes:
    """row: the application's run, with the sidecar's names. missing_modes: modes of the LMS that
    the run lacks. new_deadline: the end of the paid mode in the LMS, which the application lacks;
    None if it has the same one or the LMS has none. error: why the LMS did not return the modes."""

    row: dict[str, Any]
    missing_modes: list[ObservedMode]
    new_deadline: datetime | None = None
    error: LmsError | None = None

    @property
    def differs(self) -> bool:
        return bool(self.missing_modes or self.new_deadline)


def compare_modes(
    session: Session,
    *,
    batched: bool,
    only_run: str = "",
    changed_within_seconds: float | None = None,
    memory: RowMemory | None = None,
) -> Iterator[list[ComparedModes]]:
    """Yields pages of compared runs. batched: whether the LMS lists all runs with their modes;
    otherwise each run needs a request. only_run, changed_within_seconds, memory: as for
    ``runs.select_runs_to_compare``. Raises LmsError."""
    table = session.adapter.run_modes
    if table is None:
        return
    rows = (
        row
        for row in select_runs_to_compare(
            session,
            RUN_MODE,
            only_run=only_run,
            changed_within_seconds=changed_within_seconds,
            memory=memory,
        )
        if is_course_key(row["course"])
    )
    pages = iter(lambda: list(islice(rows, _RUNS_A_PAGE)), [])
    if batched and not only_run and changed_within_seconds is None:
        all_modes = _all_modes(session)
        for page in pages:
            yield _compare_page(
                session, table, page, {key: all_modes.get(key, []) for key in _keys(page)}
            )
        return
    for page in pages:
        with in_parallel(
            lambda key: _request_modes(session, key),
            _keys(page),
            concurrency=session.concurrency,
        ) as modes_of_runs:
            yield _compare_page(
                session, table, page, dict(zip(_keys(page), modes_of_runs, strict=True))
            )


def _keys(page: list[dict[str, Any]]) -> list[str]:
    """Returns the course keys of the runs."""
    return [row["course"] for row in page]


def _all_modes(session: Session) -> dict[str, list[ObservedMode] | LmsError]:
    """Returns course key → modes of all runs of the LMS, or the error of reading them."""
    # ``next_since`` of the pages is not used: all runs are read each time.
    pages = batch.pages_of_changes(session.lms, batch.COURSE_RUNS, since=None)
    return {key: modes for page in pages for key, modes in map(_modes_of, page.changed_objects)}


def _modes_of(run: Any) -> tuple[str, list[ObservedMode] | LmsError]:
    """Returns the course key of a run in the LMS's answer, and its modes or the error of reading
    them. Raises LmsError if the run has no key."""
    key = reading("a course run", lambda: str(run["course_id"]))
    try:
        return key, reading("a course run", lambda: read_modes(run["modes"], key))
    except LmsError as error:
        return key, error


def _request_modes(session: Session, key: str) -> list[ObservedMode] | LmsError:
    """Returns the modes of one run, or the error. Raises an LmsError that concerns all runs."""
    try:
        return session.lms.run_modes(key)
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        return error


def _compare_page(
    session: Session,
    table: ModeTables,
    page: list[dict[str, Any]],
    lms_modes: Mapping[str, list[ObservedMode] | LmsError],
) -> list[ComparedModes]:
    """Compares the runs of a page. lms_modes: course key → the LMS's modes, or the error."""
    own_slugs: dict[Any, set[str]] = {row["pk"]: set() for row in page}
    run = table.links.columns["run"]
    for links_page in session.agent.pages(
        model=table.links.model,
        fields=table.links.paths,
        filter=[{f"{run}__in": list(own_slugs)}],
        limit=MOST_ROWS,
    ):
        for row in map(table.links.rename_columns, links_page["rows"]):
            own_slugs[row["run"]].add(row["slug"])
    return [
        _compare_run(table, row, own_slugs[row["pk"]], lms_modes[row["course"]]) for row in page
    ]


def _compare_run(
    table: ModeTables,
    row: dict[str, Any],
    own_slugs: set[str],
    lms_modes: list[ObservedMode] | LmsError,
) -> ComparedModes:
    if isinstance(lms_modes, LmsError):
        return ComparedModes(row, missing_modes=[], error=lms_modes)
    lms_deadline = next(
        (mode.expires_at for mode in lms_modes if mode.slug == table.paid_slug), None
    )
    # If the LMS has no deadline, one that staff set in the application is kept.
    has_other_deadline = lms_deadline is not None and lms_deadline != moment(row["deadline"])
    return ComparedModes(
        row,
        missing_modes=[mode for mode in lms_modes if mode.slug not in own_slugs],
        new_deadline=lms_deadline if has_other_deadline else None,
    )


def count_differing(session: Session, *, batched: bool, only_run: str = "") -> int:
    return sum(
        compared.differs
        for page in compare_modes(session, batched=batched, only_run=only_run)
        for compared in page
    )


def reconcile_run_modes(
    session: Session,
    summary: Summary,
    *,
    batched: bool,
    only_run: str = "",
    changed_within_seconds: float | None = None,
) -> None:
    """Adds the LMS's modes to the application's runs that lack them, and corrects their upgrade
    deadlines. batched, only_run, changed_within_seconds: as for ``compare_modes``. Raises LmsError
    if the LMS refuses all runs for the same reason."""
    table = session.adapter.run_modes
    if table is None:
        return
    pages = compare_modes(
        session,
        batched=batched,
        only_run=only_run,
        changed_within_seconds=changed_within_seconds,
        memory=summary.row_memory,
    )
    for page in pages:
        for compared in page:
            if (
                changed_within_seconds is not None
                and compared.error is None
                and not compared.differs
            ):
                summary.row_memory.record_agreement(RUN_MODE, compared.row["pk"], compared.row)
            if (
                compared.error is not None
                # A refusal, for example because the LMS lacks the run, is no failure of the pass.
                and compared.error.failure_class is not FailureClass.REJECTED
            ):
                summary.add_error(RUN_MODE, compared.row["course"], compared.error)
        due = [
            compared
            for compared in page
            if compared.differs and summary.row_memory.is_due(RUN_MODE, retry_key_of(compared.row))
        ]
        if due:
            _add_missing_modes(session, table, due)
            _set_deadlines(session, due, summary)
        summary.report_progress()


def _add_missing_modes(session: Session, table: ModeTables, due: list[ComparedModes]) -> None:
    """Creates the modes that the application lacks, then the links from runs to their modes."""
    missing_modes = {mode.slug: mode for compared in due for mode in compared.missing_modes}
    if not missing_modes:
        return
    columns, link_columns = table.modes.columns, table.links.columns
    mode_keys = _mode_keys(session, table, list(missing_modes))
    new_modes = [mode for slug, mode in missing_modes.items() if slug not in mode_keys]
    if new_modes:
        rows = [
            {
                "find": {columns["slug"]: mode.slug},
                "set": {
                    columns["name"]: mode.name or mode.slug,
                    columns["paid"]: mode.slug == table.paid_slug,
                },
            }
            for mode in new_modes
        ]
        session.agent.ask("write", model=table.modes.model, rows=rows)
        mode_keys = _mode_keys(session, table, list(missing_modes))
    rows = [
        {
            "find": {
                link_columns["run"]: compared.row["pk"],
                link_columns["mode"]: mode_keys[mode.slug],
            },
            "set": {},
        }
        for compared in due
        for mode in compared.missing_modes
        if mode.slug in mode_keys
    ]
    for start in range(0, len(rows), MOST_ROWS):
        session.agent.ask("write", model=table.links.model, rows=rows[start : start + MOST_ROWS])


def _mode_keys(session: Session, table: ModeTables, slugs: list[str]) -> dict[str, Any]:
    """Returns slug → primary key, for the modes that the application has."""
    slug = table.modes.columns["slug"]
    pages = session.agent.pages(
        model=table.modes.model, fields=[slug], filter=[{f"{slug}__in": slugs}], limit=500
    )
    return {row[slug]: row["pk"] for page in pages for row in page["rows"]}


def _set_deadlines(session: Session, due: list[ComparedModes], summary: Summary) -> None:
    """Writes the deadlines that differ. Counts each due run, also one that only lacked modes, which
    ``_add_missing_modes`` has added."""
    column = session.adapter.runs.columns["deadline"]
    runs_with_deadline = [compared for compared in due if compared.new_deadline]
    rows = [
        {
            "pk": compared.row["pk"],
            "expect": {column: compared.row["deadline"]},
            "set": {column: compared.new_deadline.isoformat() if compared.new_deadline else None},
        }
        for compared in runs_with_deadline
    ]
    write_results = (
        session.agent.ask("write", model=session.adapter.runs.model, rows=rows) if rows else []
    )
    results = {
        compared.row["pk"]: result
        for compared, result in zip(runs_with_deadline, write_results, strict=True)
    }
    for compared in due:
        result = results.get(compared.row["pk"], {"outcome": "written"})
        summary.add_write(RUN_MODE, compared.row["course"], result, retry_key_of(compared.row))
