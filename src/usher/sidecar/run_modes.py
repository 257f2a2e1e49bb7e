"""Copies the modes in which the LMS offers a course run, as the application's own code does.
Neither ever removes a mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from usher.client import batch
from usher.client.errors import LmsError
from usher.client.payloads import ModeSeen, moment, read_modes, reading
from usher.contract.failures import FailureClass
from usher.sidecar.adapters.adapter import RunModes
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import Memory, Outcome
from usher.sidecar.overlapping import overlapped
from usher.sidecar.process import MOST_ROWS
from usher.sidecar.runs import content_of, is_key, to_compare

RUN_MODE = "run-mode"
#: Runs in one write.
_SIZE = 100


@dataclass(frozen=True)
class Offered:
    """row: the application's run, with the sidecar's names. lacks: modes of the LMS that the run
    lacks. deadline: the end of the paid mode in the LMS; None if the run has the same, or there is
    none. error: why the LMS did not return the modes."""

    row: dict[str, Any]
    lacks: list[ModeSeen]
    deadline: datetime | None = None
    error: LmsError | None = None

    @property
    def differs(self) -> bool:
        return bool(self.lacks or self.deadline)


def offered(
    sides: Opened,
    *,
    batched: bool,
    only: str = "",
    changed_in: float | None = None,
    memory: Memory | None = None,
) -> Iterator[list[Offered]]:
    """Yields pages of compared runs. batched: whether the LMS lists all runs with their modes;
    otherwise each run needs a request. only, changed_in, memory: as for ``runs.to_compare``. Raises
    LmsError."""
    table = sides.adapter.run_modes
    if table is None:
        return
    rows = (
        row
        for row in to_compare(sides, RUN_MODE, only, changed_in, memory)
        if is_key(row["course"])
    )
    pages = iter(lambda: list(islice(rows, _SIZE)), [])
    if batched and not only and changed_in is None:
        listed = _listed(sides)
        for page in pages:
            yield _compared(sides, table, page, {key: listed.get(key, []) for key in _keys(page)})
        return
    for page in pages:
        with overlapped(lambda key: _asked(sides, key), _keys(page), sides.concurrency) as told:
            yield _compared(sides, table, page, dict(zip(_keys(page), told, strict=True)))


def _keys(page: list[dict[str, Any]]) -> list[str]:
    return [row["course"] for row in page]


def _listed(sides: Opened) -> dict[str, list[ModeSeen] | LmsError]:
    found: dict[str, list[ModeSeen] | LmsError] = {}
    cursor = ""
    while True:
        runs, cursor, _ = batch.changed_since(sides.lms, batch.COURSE_RUNS, None, cursor)
        found |= dict(map(_modes_of, runs))
        if not cursor:
            return found


def _modes_of(run: Any) -> tuple[str, list[ModeSeen] | LmsError]:
    key = reading("a course run", lambda: str(run["course_id"]))
    try:
        return key, reading("a course run", lambda: read_modes(run["modes"]))
    except LmsError as error:
        return key, error


def _asked(sides: Opened, key: str) -> list[ModeSeen] | LmsError:
    try:
        return sides.lms.run_modes(key)
    except LmsError as error:
        if error.failure_class is FailureClass.SYSTEMIC:
            raise
        return error


def _compared(
    sides: Opened,
    table: RunModes,
    page: list[dict[str, Any]],
    there: Mapping[str, list[ModeSeen] | LmsError],
) -> list[Offered]:
    here: dict[Any, set[str]] = {row["pk"]: set() for row in page}
    run = table.offered.columns["run"]
    for pages in sides.agent.pages(
        model=table.offered.model,
        fields=table.offered.paths,
        filter=[{f"{run}__in": list(here)}],
        limit=MOST_ROWS,
    ):
        for row in map(table.offered.named, pages["rows"]):
            here[row["run"]].add(row["slug"])
    return [_of_run(table, row, here[row["pk"]], there[row["course"]]) for row in page]


def _of_run(
    table: RunModes, row: dict[str, Any], here: set[str], there: list[ModeSeen] | LmsError
) -> Offered:
    if isinstance(there, LmsError):
        return Offered(row, [], error=there)
    ends = next((mode.expires_at for mode in there if mode.slug == table.paid), None)
    return Offered(
        row,
        [mode for mode in there if mode.slug not in here],
        # If the LMS has none, a deadline that staff set here is kept.
        ends if ends is not None and ends != moment(row["deadline"]) else None,
    )


def count_lacking(sides: Opened, *, batched: bool, only: str = "") -> int:
    return sum(each.differs for page in offered(sides, batched=batched, only=only) for each in page)


def reconcile_run_modes(
    sides: Opened,
    outcome: Outcome,
    *,
    batched: bool,
    only: str = "",
    changed_in: float | None = None,
) -> None:
    """Writes the modes of runs that differ. Raises LmsError if the LMS refuses all runs for the
    same reason."""
    table = sides.adapter.run_modes
    if table is None:
        return
    pages = offered(sides, batched=batched, only=only, changed_in=changed_in, memory=outcome.memory)
    for page in pages:
        for each in page:
            if changed_in is not None and each.error is None and not each.differs:
                outcome.memory.found_right(RUN_MODE, each.row["pk"], each.row)
            if each.error is not None and each.error.failure_class is not FailureClass.REJECTED:
                outcome.add_error(RUN_MODE, each.row["course"], each.error)
        due = [
            each
            for each in page
            if each.differs and outcome.memory.is_due(RUN_MODE, content_of(each.row))
        ]
        if due:
            _add(sides, table, due)
            _set_deadlines(sides, due, outcome)
        outcome.told()


def _add(sides: Opened, table: RunModes, due: list[Offered]) -> None:
    lacking = {mode.slug: mode for each in due for mode in each.lacks}
    if not lacking:
        return
    columns, relation = table.modes.columns, table.offered.columns
    known = _known(sides, table, list(lacking))
    new = [mode for slug, mode in lacking.items() if slug not in known]
    if new:
        rows = [
            {
                "find": {columns["slug"]: mode.slug},
                "set": {
                    columns["name"]: mode.name or mode.slug,
                    columns["paid"]: mode.slug == table.paid,
                },
            }
            for mode in new
        ]
        sides.agent.ask("write", model=table.modes.model, rows=rows)
        known = _known(sides, table, list(lacking))
    rows = [
        {
            "find": {relation["run"]: each.row["pk"], relation["mode"]: known[mode.slug]},
            "set": {},
        }
        for each in due
        for mode in each.lacks
        if mode.slug in known
    ]
    for start in range(0, len(rows), MOST_ROWS):
        sides.agent.ask("write", model=table.offered.model, rows=rows[start : start + MOST_ROWS])


def _known(sides: Opened, table: RunModes, slugs: list[str]) -> dict[str, Any]:
    slug = table.modes.columns["slug"]
    pages = sides.agent.pages(
        model=table.modes.model, fields=[slug], filter=[{f"{slug}__in": slugs}], limit=500
    )
    return {row[slug]: row["pk"] for page in pages for row in page["rows"]}


def _set_deadlines(sides: Opened, due: list[Offered], outcome: Outcome) -> None:
    column = sides.adapter.runs.columns["deadline"]
    ending = [each for each in due if each.deadline]
    rows = [
        {
            "pk": each.row["pk"],
            "expect": {column: each.row["deadline"]},
            "set": {column: each.deadline.isoformat() if each.deadline else None},
        }
        for each in ending
    ]
    written = sides.agent.ask("write", model=sides.adapter.runs.model, rows=rows) if rows else []
    results = {each.row["pk"]: result for each, result in zip(ending, written, strict=True)}
    for each in due:
        result = results.get(each.row["pk"], {"outcome": "written"})
        outcome.add_written(RUN_MODE, each.row["course"], result, content_of(each.row))
