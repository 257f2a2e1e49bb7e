"""Copies the modes in which the LMS offers a course run, as the application's own code does. No
mode is ever removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import ObservedMode, moment, read_modes, reading
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import ModeTables
from usher.sidecar.parallel import in_parallel
from usher.sidecar.process import MOST_ROWS
from usher.sidecar.runs import is_course_key, pages_of, retry_key_of, select_runs_to_compare
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
    rows = select_runs_to_compare(
        session,
        RUN_MODE,
        only_run=only_run,
        changed_within_seconds=changed_within_seconds,
        memory=memory,
    )
    rows_with_key = (row for row in rows if is_course_key(row["course"]))
    compares_all_runs = not only_run and changed_within_seconds is None
    all_modes = _all_modes(session) if batched and compares_all_runs else None
    for page in pages_of(rows_with_key, _RUNS_A_PAGE):
        keys = _keys(page)
        if all_modes is not None:
            lms_modes = {key: all_modes.get(key, []) for key in keys}
        else:
            lms_modes = _request_modes_of_each(session, keys)
        yield _compare_page(session, table, page, lms_modes)


def _keys(page: list[dict[str, Any]]) -> list[str]:
    """Returns the course keys of the runs."""
    return [row["course"] for row in page]


def _all_modes(session: Session) -> dict[str, list[ObservedMode] | LmsError]:
    """Returns course key → modes of all runs of the LMS, or the error of reading them."""
    # ``next_since`` of the pages is not used: all runs are read each time.
    pages = batch.pages_of_changes(session.lms, batch.COURSE_RUNS, since=None)
    modes_of_runs = {}
    for page in pages:
        for run in page.changed_objects:
            key = _key_of(run)
            modes_of_runs[key] = _modes_of(run, key)
    return modes_of_runs


def _key_of(run: Any) -> str:
    """Returns the course key of a run in the LMS's answer. Raises LmsError if it has none."""
    return reading("a course run", lambda: str(run["course_id"]))


def _modes_of(run: Any, key: str) -> list[ObservedMode] | LmsError:
    """Returns the modes of a run in the LMS's answer, or the error of reading them."""
    try:
        return reading("a course run", lambda: read_modes(run["modes"], key))
    except LmsError as error:
        return error


def _request_modes_of_each(
    session: Session, keys: list[str]
) -> dict[str, list[ObservedMode] | LmsError]:
    """Requests the modes of these runs, several at a time. Returns course key → modes, or the
    error. Raises an LmsError that concerns all runs."""

    def request_modes(key: str) -> list[ObservedMode] | LmsError:
        return _request_modes(session, key)

    with in_parallel(request_modes, keys, concurrency=session.concurrency) as modes_of_runs:
        return dict(zip(keys, modes_of_runs, strict=True))


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
    links = table.links
    own_slugs: dict[Any, set[str]] = {row["pk"]: set() for row in page}
    pages_of_links = session.agent.pages(
        model=links.model,
        fields=links.paths,
        filter=[{f"{links.columns['run']}__in": list(own_slugs)}],
        limit=MOST_ROWS,
    )
    for page_of_links in pages_of_links:
        for row in page_of_links["rows"]:
            link = links.rename_columns(row)
            own_slugs[link["run"]].add(link["slug"])
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
    missing_modes = [mode for mode in lms_modes if mode.slug not in own_slugs]
    lms_deadline = None
    for mode in lms_modes:
        if mode.slug == table.paid_slug:
            lms_deadline = mode.expires_at
            break
    # If the LMS has no deadline, one that staff set in the application is kept.
    new_deadline = lms_deadline if lms_deadline != moment(row["deadline"]) else None
    return ComparedModes(row, missing_modes, new_deadline)


def count_differing(session: Session, *, batched: bool, only_run: str = "") -> int:
    """Counts the runs that differ."""
    number = 0
    for page in compare_modes(session, batched=batched, only_run=only_run):
        number += sum(compared.differs for compared in page)
    return number


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
        due = []
        for compared in page:
            row, error = compared.row, compared.error
            if error is not None:
                # A refusal, for example because the LMS lacks the run, is no failure of the pass.
                if error.failure_class is not FailureClass.REJECTED:
                    summary.add_error(RUN_MODE, row["course"], error)
            elif not compared.differs:
                if changed_within_seconds is not None:
                    summary.row_memory.record_agreement(RUN_MODE, row["pk"], row)
            elif summary.row_memory.is_due(RUN_MODE, retry_key_of(row)):
                due.append(compared)
        if due:
            _add_missing_modes(session, table, due)
            _set_deadlines(session, due, summary)
        summary.report_progress()


def _add_missing_modes(session: Session, table: ModeTables, due: list[ComparedModes]) -> None:
    """Creates the modes that the application lacks, then the links from runs to their modes."""
    mode_of_slug = {}
    for compared in due:
        for mode in compared.missing_modes:
            mode_of_slug[mode.slug] = mode
    if not mode_of_slug:
        return

    mode_keys = _mode_keys(session, table, list(mode_of_slug))
    new_modes = [mode for slug, mode in mode_of_slug.items() if slug not in mode_keys]
    if new_modes:
        rows = [_row_of_mode(table, mode) for mode in new_modes]
        session.agent.ask("write", model=table.modes.model, rows=rows)
        mode_keys = _mode_keys(session, table, list(mode_of_slug))

    link_columns = table.links.columns
    links = []
    for compared in due:
        for mode in compared.missing_modes:
            if mode.slug in mode_keys:
                find = {
                    link_columns["run"]: compared.row["pk"],
                    link_columns["mode"]: mode_keys[mode.slug],
                }
                links.append({"find": find, "set": {}})
    for start in range(0, len(links), MOST_ROWS):
        session.agent.ask("write", model=table.links.model, rows=links[start : start + MOST_ROWS])


def _row_of_mode(table: ModeTables, mode: ObservedMode) -> dict[str, Any]:
    """Returns the row of the agent's ``write`` that creates a mode."""
    columns = table.modes.columns
    return {
        "find": {columns["slug"]: mode.slug},
        "set": {
            columns["name"]: mode.name or mode.slug,
            columns["paid"]: mode.slug == table.paid_slug,
        },
    }


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
    rows = []
    for compared in due:
        if compared.new_deadline:
            rows.append(
                {
                    "pk": compared.row["pk"],
                    "expect": {column: compared.row["deadline"]},
                    "set": {column: compared.new_deadline.isoformat()},
                }
            )
    # Primary key → the agent's outcome, for the runs with a new deadline.
    outcomes = {}
    if rows:
        answers = session.agent.ask("write", model=session.adapter.runs.model, rows=rows)
        for row, answer in zip(rows, answers, strict=True):
            outcomes[row["pk"]] = answer
    for compared in due:
        outcome = outcomes.get(compared.row["pk"], {"outcome": "written"})
        summary.add_write(RUN_MODE, compared.row["course"], outcome, retry_key_of(compared.row))
