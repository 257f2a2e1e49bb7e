"""Finds and repairs differences of enrollments that only a comparison with the LMS shows.

Each kind is processed only if the operator names it. "Here" is the application.

======== ============================================================ =======================
kind     difference                                                   what is changed
======== ============================================================ =======================
missing  recorded here as enrolled; the LMS has no such enrollment    the LMS
mode     another mode in the LMS; a paid mode in the LMS is kept if   the LMS
         the mode here is free
adopt    active enrollment in the LMS; no row here, not even an       the application
         inactive one
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
from usher.sidecar.adapters.adapter import Adapter, Selection, user_condition
from usher.sidecar.enrollments import (
    Send,
    claim_due_rows,
    enroll,
    make_sender,
    read_enrollment_pages,
)
from usher.sidecar.learners import Enrollment, Learner, read_learners
from usher.sidecar.parallel import in_parallel
from usher.sidecar.session import Session
from usher.sidecar.summary import RowMemory, Summary

MISSING, MODE, ADOPT = "missing", "mode", "adopt"
KINDS = (MISSING, MODE, ADOPT)
#: Free modes.
_FREE_MODES = ("audit", "honor")
#: Concurrent requests to the LMS.
_CONCURRENCY = 8


@dataclass(frozen=True)
class EnrollmentPair:
    """A learner's enrollment in a run, in the application and in the LMS. row: the application's
    active row, or None. ended_row: a row of the application that was refunded, deferred or ended,
    or None. in_lms: the LMS's enrollment, or None."""

    learner: Learner
    course: str
    row: Enrollment | None
    ended_row: Enrollment | None
    in_lms: ListedEnrollment | None


def pairs_of(learner: Learner, lms_enrollments: list[ListedEnrollment]) -> Iterator[EnrollmentPair]:
    """Pairs the enrollments of a learner. Several rows here, for example of several orders, may
    belong to one enrollment in the LMS."""
    in_lms = {enrollment.course_key: enrollment for enrollment in lms_enrollments}
    active_rows = {row.course: row for row in learner.enrollments if row.is_active}
    ended_rows = {row.course: row for row in learner.enrollments if row.course not in active_rows}
    for course in {**active_rows, **in_lms}:
        yield EnrollmentPair(
            learner,
            course,
            row=active_rows.get(course),
            ended_row=ended_rows.get(course),
            in_lms=in_lms.get(course),
        )


def mode_differs(adapter: Adapter, pair: EnrollmentPair) -> bool:
    """Whether the mode in the LMS is one that the application's own code would change. The fallback
    mode is not: that code takes it if the LMS doesn't offer the mode here."""
    if pair.row is None or pair.in_lms is None or not pair.in_lms.is_active or not pair.row.mode:
        return False
    return pair.in_lms.mode not in (pair.row.mode, adapter.fallback_mode)


def _is_missing_in_lms(adapter: Adapter, pair: EnrollmentPair) -> bool:
    return pair.row is not None and pair.row.enrolled and pair.in_lms is None


def _must_change_mode(adapter: Adapter, pair: EnrollmentPair) -> bool:
    """Whether to change the mode. A learner who has a paid mode in the LMS keeps it."""
    if pair.row is None or pair.in_lms is None or not mode_differs(adapter, pair):
        return False
    return pair.row.mode not in _FREE_MODES or pair.in_lms.mode in _FREE_MODES


def _is_unknown_here(adapter: Adapter, pair: EnrollmentPair) -> bool:
    if pair.in_lms is None or not pair.in_lms.is_active:
        return False
    return pair.row is None and pair.ended_row is None


#: Kind → whether a pair differs in this way. All take the adapter, though only MODE needs it.
_IS_DIFFERENCE: dict[str, Callable[[Adapter, EnrollmentPair], bool]] = {
    MISSING: _is_missing_in_lms,
    MODE: _must_change_mode,
    ADOPT: _is_unknown_here,
}


def find_differing(
    session: Session,
    kind: str,
    *,
    user: str = "",
    run: str = "",
    changed_within_seconds: float | None = None,
    memory: RowMemory | None = None,
) -> Iterator[list[EnrollmentPair]]:
    """Yields pages of differing enrollments. user, run: only enrollments of this learner or run; ''
    for all. changed_within_seconds: only enrollments of learners with an enrollment that the
    application changed in that time; None for all. memory: used with ``changed_within_seconds``, to
    leave out learners that have not changed since they agreed with the LMS."""
    if changed_within_seconds is not None:
        for keys in _keys_of_changed_learners(session, changed_within_seconds):
            yield from _find_differing(session, kind, user, run, learner_keys=keys, memory=memory)
    else:
        yield from _find_differing(session, kind, user, run)


def _keys_of_changed_learners(session: Session, seconds: float) -> Iterator[list[Any]]:
    """Yields pages of primary keys of learners whose enrollments changed."""
    table = session.adapter.enrollments
    user_column = table.columns["user"]
    selection = Selection(filter=(session.adapter.changed_enrollments(seconds),))
    pages = session.agent.pages(
        model=table.model, fields=[user_column], limit=500, **selection.request()
    )
    for page in pages:
        if page["rows"]:
            yield sorted({row[user_column] for row in page["rows"]})


def _find_differing(
    session: Session,
    kind: str,
    user: str,
    run: str,
    *,
    learner_keys: list[Any] | None = None,
    memory: RowMemory | None = None,
) -> Iterator[list[EnrollmentPair]]:
    """Does the work of ``find_differing``. learner_keys: primary keys of the only learners to
    compare; None for all. memory: leaves out learners that have not changed since they agreed with
    the LMS; None compares all."""
    selection = session.adapter.eligible_users
    if user:
        selection = selection.narrowed_by(user_condition(user))
    if learner_keys is not None:
        selection = selection.narrowed_by({"pk__in": learner_keys})

    def must_compare(learner: Learner) -> bool:
        if not learner.has_account or not learner.username:
            return False
        if memory is None:
            return True
        return not memory.has_agreed_with_lms(kind, learner.pk, learner.enrollments)

    def is_difference(pair: EnrollmentPair) -> bool:
        if run and pair.course != run:
            return False
        return _IS_DIFFERENCE[kind](session.adapter, pair)

    def compare_page(page: list[Learner]) -> list[EnrollmentPair]:
        learners = {learner.username: learner for learner in page if must_compare(learner)}
        lms_enrollments = _lms_enrollments_of(session, list(learners))
        differing_pairs: list[EnrollmentPair] = []
        for username, learner in learners.items():
            pairs = pairs_of(learner, lms_enrollments[username])
            differing_pairs_of_learner = [pair for pair in pairs if is_difference(pair)]
            if memory is not None and not differing_pairs_of_learner:
                memory.record_agreement(kind, learner.pk, learner.enrollments)
            differing_pairs += differing_pairs_of_learner
        return differing_pairs

    pages = read_learners(session.agent, session.adapter, selection=selection)
    with in_parallel(compare_page, pages, concurrency=_CONCURRENCY) as results:
        for differing_pairs in results:
            if kind == ADOPT:
                yield _in_known_runs(session, differing_pairs)
            else:
                yield differing_pairs


def _lms_enrollments_of(
    session: Session, usernames: list[str]
) -> dict[str, list[ListedEnrollment]]:
    """Returns username → enrollments in the LMS. Sends no request if there are no usernames."""
    enrollments: dict[str, list[ListedEnrollment]] = {username: [] for username in usernames}
    if not usernames:
        return enrollments
    for enrollment in session.lms.enrollments_of(usernames):
        if enrollment.username in enrollments:
            enrollments[enrollment.username].append(enrollment)
    return enrollments


def _in_known_runs(session: Session, pairs: list[EnrollmentPair]) -> list[EnrollmentPair]:
    """Returns the pairs whose run the application has: it can't record others."""
    known_runs = _run_keys(session, pairs)
    return [pair for pair in pairs if pair.course in known_runs]


def _run_keys(session: Session, pairs: list[EnrollmentPair]) -> dict[str, Any]:
    """Returns course key → primary key, for the runs that the application has."""
    course_keys = sorted({pair.course for pair in pairs})
    if not course_keys:
        return {}
    table = session.adapter.runs
    column = table.columns["course"]
    pages = session.agent.pages(
        model=table.model, fields=[column], filter=[{f"{column}__in": course_keys}], limit=500
    )
    primary_keys = {}
    for page in pages:
        for row in page["rows"]:
            primary_keys[row[column]] = row["pk"]
    return primary_keys


def count_differing(session: Session, kind: str, *, user: str = "", run: str = "") -> int:
    return sum(len(page) for page in find_differing(session, kind, user=user, run=run))


def reconcile_compared(
    session: Session,
    kind: str,
    summary: Summary,
    *,
    batched: bool,
    user: str = "",
    run: str = "",
    changed_within_seconds: float | None = None,
) -> None:
    """Processes all differences of ``kind``. user, run, changed_within_seconds: as for
    ``find_differing``. Raises LmsError if the LMS refuses all learners for the same reason."""
    with ThreadPoolExecutor(session.concurrency, thread_name_prefix="enrollment") as pool:
        send = make_sender(session, pool, batched=batched)
        pages = find_differing(
            session,
            kind,
            user=user,
            run=run,
            changed_within_seconds=changed_within_seconds,
            memory=summary.row_memory,
        )
        for page in pages:
            if kind == ADOPT:
                _adopt(session, page, summary)
            else:
                _enroll(session, kind, page, send, summary)
            summary.report_progress()


def _enroll(
    session: Session, kind: str, page: list[EnrollmentPair], send: Send, summary: Summary
) -> None:
    """Enrolls in the LMS as the application's rows say. kind: MISSING or MODE."""
    keys = [pair.row.pk for pair in page if pair.row]
    if not keys:
        return
    selection = Selection(filter=({"pk__in": keys},))
    for rows in read_enrollment_pages(session, selection):
        with claim_due_rows(kind, rows, summary) as due:
            if due:
                enroll(session, due, send, summary, kind)


def _adopt(session: Session, page: list[EnrollmentPair], summary: Summary) -> None:
    """Creates the rows of enrollments that only the LMS has, as the application's own sync of a
    learner does. Unlike that sync, uses the LMS's mode and writes audit rows."""
    columns = session.adapter.enrollments.columns
    run_keys = _run_keys(session, page)
    due = [pair for pair in page if summary.row_memory.is_due(ADOPT, _retry_key_of_adoption(pair))]
    if not due:
        return
    rows = []
    for pair in due:
        values: dict[str, Any] = {columns["is_active"]: True, columns["enrolled"]: True}
        if "mode" in columns and pair.in_lms:
            values[columns["mode"]] = pair.in_lms.mode
        find = {
            columns["user"]: pair.learner.pk,
            session.adapter.enrollment_run: run_keys[pair.course],
        }
        rows.append({"find": find, "set": values})
    results = session.agent.ask(
        "write", model=session.adapter.enrollments.model, save_method="save_and_log", rows=rows
    )
    for pair, result in zip(due, results, strict=True):
        learner_and_run = f"{pair.learner.shown_name} in {pair.course}"
        summary.add_write(ADOPT, learner_and_run, result, _retry_key_of_adoption(pair))


def _retry_key_of_adoption(pair: EnrollmentPair) -> tuple[Any, str]:
    """Returns the key for ``RowMemory.record``. There is no row whose values it could have."""
    return pair.learner.pk, pair.course
