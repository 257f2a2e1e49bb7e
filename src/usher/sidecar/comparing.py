"""Enrollments that are due although no column shows it: found by comparing with the LMS.

Each kind is processed only if it is named. What is changed:

======== ============================================================ =======================
kind     difference                                                   changed
======== ============================================================ =======================
missing  recorded here as enrolled; the LMS has no such enrollment    the LMS
mode     another mode in the LMS, except a paid one where it is free  the LMS
         here
adopt    the LMS has an enrollment; no row here, whatever its status  the application
======== ============================================================ =======================

An enrollment that is inactive in the LMS, or was refunded, deferred or ended in the application, is
somebody's decision: ``drift`` lists it, and it is never reversed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from usher.client.payloads import ListedEnrollment
from usher.sidecar.adapters.adapter import Adapter, Selection
from usher.sidecar.enrollments import due_rows, enroll, pages_of, sender
from usher.sidecar.learners import Enrollment, Learner, learners
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import Memory, Outcome
from usher.sidecar.overlapping import overlapped

MISSING, MODE, ADOPT = "missing", "mode", "adopt"
KINDS = (MISSING, MODE, ADOPT)
#: Free modes.
_FREE = ("audit", "honor")
#: Concurrent requests to the LMS.
_AT_ONCE = 8


@dataclass(frozen=True)
class Both:
    """A learner's enrollment in a run, in the application and in the LMS. row: the application's
    active row. ended: one that was refunded, deferred or ended. found: the LMS's enrollment. None
    if there is none."""

    learner: Learner
    course: str
    row: Enrollment | None
    ended: Enrollment | None
    found: ListedEnrollment | None


def both_sides(learner: Learner, there: list[ListedEnrollment]) -> Iterator[Both]:
    """Pairs the enrollments of a learner. Several rows here, for example of several orders, may
    belong to one enrollment in the LMS."""
    seen = {enrollment.course_key: enrollment for enrollment in there}
    wanted = {row.course: row for row in learner.enrollments if row.wanted}
    ended = {row.course: row for row in learner.enrollments if row.course not in wanted}
    for course in {**wanted, **seen}:
        yield Both(learner, course, wanted.get(course), ended.get(course), seen.get(course))


def is_other_mode(adapter: Adapter, both: Both) -> bool:
    """Whether the mode in the LMS is one that the application's own code would change."""
    if both.row is None or both.found is None or not both.found.is_active or not both.row.mode:
        return False
    return both.found.mode not in (both.row.mode, adapter.mode_instead)


def _is_missing(adapter: Adapter, both: Both) -> bool:
    return both.row is not None and both.row.enrolled and both.found is None


def _is_mode(adapter: Adapter, both: Both) -> bool:
    """Whether to change the mode. A learner who has a paid mode in the LMS keeps it."""
    if both.row is None or both.found is None or not is_other_mode(adapter, both):
        return False
    return both.row.mode not in _FREE or both.found.mode in _FREE


def _is_adopted(adapter: Adapter, both: Both) -> bool:
    return both.row is None and both.ended is None and both.found is not None


_DIFFERS: dict[str, Callable[[Adapter, Both], bool]] = {
    MISSING: _is_missing,
    MODE: _is_mode,
    ADOPT: _is_adopted,
}


def differing(
    sides: Opened,
    kind: str,
    user: str = "",
    run: str = "",
    changed_in: float | None = None,
    memory: Memory | None = None,
) -> Iterator[list[Both]]:
    """Yields pages of differing enrollments. user, run: only of these; '' for all. changed_in: only
    of learners with an enrollment that the application changed in the last so many seconds; None
    for all. memory: of these, leaves out those that have not changed since they agreed with the
    LMS."""
    if changed_in is not None:
        for keys in _with_changes(sides, changed_in):
            yield from _differing(sides, kind, user, run, keys, memory)
    else:
        yield from _differing(sides, kind, user, run)


def _with_changes(sides: Opened, seconds: float) -> Iterator[list[Any]]:
    """Yields the primary keys of learners whose enrollments changed."""
    table, user = sides.adapter.enrollments, sides.adapter.enrollments.columns["user"]
    changed = Selection(filter=(sides.adapter.changed_enrollments(seconds),))
    for page in sides.agent.pages(model=table.model, fields=[user], limit=500, **changed.request()):
        if page["rows"]:
            yield sorted({row[user] for row in page["rows"]})


def _differing(
    sides: Opened,
    kind: str,
    user: str,
    run: str,
    keys: list[Any] | None = None,
    memory: Memory | None = None,
) -> Iterator[list[Both]]:
    only = sides.adapter.users_taken
    if user:
        only = only.also([{"email": user}, {"username": user}])
    if keys is not None:
        only = only.also({"pk__in": keys})

    def compared(page: list[Learner]) -> list[Both]:
        made = {
            learner.username: learner
            for learner in page
            if learner.made
            and learner.username
            and (memory is None or not memory.is_right(kind, learner.pk, learner.enrollments))
        }
        there: dict[str, list[ListedEnrollment]] = {name: [] for name in made}
        for enrollment in sides.lms.enrollments_of(list(made)) if made else ():
            if enrollment.username in there:
                there[enrollment.username].append(enrollment)
        found: list[Both] = []
        for name, learner in made.items():
            differ = [
                both
                for both in both_sides(learner, there[name])
                if run in ("", both.course) and _DIFFERS[kind](sides.adapter, both)
            ]
            if memory is not None and not differ:
                memory.found_right(kind, learner.pk, learner.enrollments)
            found += differ
        return found

    pages = learners(sides.agent, sides.adapter, only=only)
    with overlapped(compared, pages, _AT_ONCE) as results:
        for found in results:
            active = [both for both in found if kind != ADOPT or _is_active(both)]
            yield _in_known_runs(sides, active) if kind == ADOPT else active


def _is_active(both: Both) -> bool:
    return both.found is not None and both.found.is_active


def _in_known_runs(sides: Opened, found: list[Both]) -> list[Both]:
    known = _runs(sides, found)
    return [both for both in found if both.course in known]


def _runs(sides: Opened, found: list[Both]) -> dict[str, Any]:
    """Returns course key → primary key, of those runs that the application has."""
    table = sides.adapter.runs
    keys = sorted({both.course for both in found})
    if not keys:
        return {}
    course = table.columns["course"]
    pages = sides.agent.pages(
        model=table.model, fields=[course], filter=[{f"{course}__in": keys}], limit=500
    )
    return {row[course]: row["pk"] for page in pages for row in page["rows"]}


def count_differing(sides: Opened, kind: str, user: str = "", run: str = "") -> int:
    return sum(len(page) for page in differing(sides, kind, user, run))


def reconcile_compared(
    sides: Opened,
    kind: str,
    outcome: Outcome,
    *,
    batched: bool,
    user: str = "",
    run: str = "",
    changed_in: float | None = None,
) -> None:
    """Processes all differences of ``kind``. Raises LmsError if the LMS refuses all learners for
    the same reason."""
    with ThreadPoolExecutor(sides.concurrency, thread_name_prefix="enrollment") as pool:
        send = sender(sides, pool, batched=batched)
        for page in differing(sides, kind, user, run, changed_in, outcome.memory):
            if kind == ADOPT:
                _adopt(sides, page, outcome)
            else:
                keys = [both.row.pk for both in page if both.row]
                only = Selection(filter=({"pk__in": keys},))
                for rows in pages_of(sides, only) if keys else ():
                    with due_rows(kind, rows, outcome) as due:
                        if due:
                            enroll(sides, due, send, outcome, kind)
            outcome.told()


def _adopt(sides: Opened, page: list[Both], outcome: Outcome) -> None:
    """Creates enrollments as the application's sync does, but in the LMS's mode and with audit
    rows."""
    columns, known = sides.adapter.enrollments.columns, _runs(sides, page)
    due = [both for both in page if outcome.memory.is_due(ADOPT, (both.learner.pk, both.course))]
    if not due:
        return
    rows = []
    for both in due:
        values: dict[str, Any] = {columns["wanted"]: True, columns["enrolled"]: True}
        if "mode" in columns and both.found:
            values[columns["mode"]] = both.found.mode
        find = {
            columns["user"]: both.learner.pk,
            sides.adapter.enrollment_run: known[both.course],
        }
        rows.append({"find": find, "set": values})
    results = sides.agent.ask(
        "write", model=sides.adapter.enrollments.model, by="save_and_log", rows=rows
    )
    for both, result in zip(due, results, strict=True):
        key = (both.learner.pk, both.course)
        outcome.add_written(ADOPT, f"{both.learner.email} in {both.course}", result, key)
