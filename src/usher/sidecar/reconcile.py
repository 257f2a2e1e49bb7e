"""One pass over the rows that are due according to the application's own tables.

The sidecar stores nothing. It reads the due rows from the application, and writes the results of
each batch back before the next batch. So the next pass continues where a killed pass ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import NamedTuple

from usher.client import batch
from usher.client.errors import Throttled
from usher.sidecar import comparing, profiles, run_modes, runs
from usher.sidecar.accounts import ACCOUNT, reconcile_accounts
from usher.sidecar.adapters.adapter import Adapter, Selection, user_condition
from usher.sidecar.enrollments import ENROLLMENT, UNENROLLMENT, reconcile_enrollments
from usher.sidecar.errors import SidecarError
from usher.sidecar.learners import Learner, read_learners
from usher.sidecar.process import Agent
from usher.sidecar.profiles import PROFILE, reconcile_profiles
from usher.sidecar.run_modes import RUN_MODE, reconcile_run_modes
from usher.sidecar.runs import RUN, reconcile_runs
from usher.sidecar.session import Session
from usher.sidecar.summary import DONE, Summary

KINDS = (ACCOUNT, ENROLLMENT, RUN, RUN_MODE, UNENROLLMENT, PROFILE, *comparing.KINDS)
#: The kinds processed by default. They end no enrollments and overwrite no values in the LMS.
DEFAULT_KINDS = (ACCOUNT, ENROLLMENT, RUN, RUN_MODE)
#: ``reconcile_to_the_end`` gives up after this many consecutive passes that completed no row
#: because of the LMS's rate limit.
_MAX_IDLE_PASSES = 3
#: The shortest pause, in seconds, after a pass that the rate limit ended.
_MIN_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class PassScope:
    """Which rows a pass processes. user: e-mail address or username; run: course key; '' for all.
    changed_within_seconds: only rows that the application changed in that time; None for all."""

    kinds: Collection[str] = DEFAULT_KINDS
    user: str = ""
    run: str = ""
    changed_within_seconds: float | None = None

    def includes(self, kind: str) -> bool:
        """Whether a kind is processed. If the scope names a user, no course runs are."""
        if kind in (RUN, RUN_MODE) and self.user:
            return False
        return kind in self.kinds


class DueRows(NamedTuple):
    """model: the table of the application. selection: the rows of it that are due."""

    model: str
    selection: Selection


def select_due(adapter: Adapter, scope: PassScope) -> dict[str, DueRows]:
    """Returns the due rows of each kind of ``scope`` that is due according to the application's own
    tables."""
    due = {}
    if ACCOUNT in scope.kinds:
        users = adapter.users_due
        if scope.user:
            users = users.narrowed_by(user_condition(scope.user))
        if scope.changed_within_seconds is not None:
            users = users.narrowed_by(adapter.changed_users(scope.changed_within_seconds))
        due[ACCOUNT] = DueRows(adapter.users.model, users)
    if ENROLLMENT in scope.kinds:
        due[ENROLLMENT] = _enrollments_in_scope(adapter, scope, adapter.enrollments_due)
    if UNENROLLMENT in scope.kinds:
        due[UNENROLLMENT] = _enrollments_in_scope(adapter, scope, adapter.unenrollments_due)
    return due


def _enrollments_in_scope(adapter: Adapter, scope: PassScope, selection: Selection) -> DueRows:
    if scope.user:
        selection = selection.narrowed_by(user_condition(scope.user, prefix="user__"))
    if scope.run:
        selection = selection.narrowed_by({adapter.enrollments.columns["course"]: scope.run})
    if scope.changed_within_seconds is not None:
        selection = selection.narrowed_by(
            adapter.newly_due_enrollments(scope.changed_within_seconds)
        )
    return DueRows(adapter.enrollments.model, selection)


def check_scope(agent: Agent, adapter: Adapter, scope: PassScope) -> None:
    """Raises SidecarError for a user or a course run that the application does not have, for
    example because it is misspelt."""
    if scope.user:
        user = Selection().narrowed_by(user_condition(scope.user))
        if not agent.ask("count", model=adapter.users.model, **user.request()):
            raise SidecarError(
                f"{adapter.title} has no user with the username or e-mail address {scope.user!r}."
            )
    if scope.run:
        run = Selection(filter=({adapter.runs.columns["course"]: scope.run},))
        if not agent.ask("count", model=adapter.runs.model, **run.request()):
            text = f"{adapter.title} has no course run {scope.run!r}."
            if not runs.is_course_key(scope.run):
                text += " A key is course-v1:<org>+<course>+<run>."
            raise SidecarError(text)


def why_not_eligible(agent: Agent, adapter: Adapter, user: str) -> str:
    """Returns why no account is created for a user; '' if the user is eligible. user: e-mail
    address or username of a user that the application has."""
    # An eligible user: is the account given up?
    eligible_user = adapter.eligible_users.narrowed_by(user_condition(user))
    pages = read_learners(agent, adapter, selection=eligible_user, with_enrollments=False)
    first_page: list[Learner] = next(pages, [])
    if first_page:
        learner = first_page[0]
        if not learner.given_up:
            return ""
        reason = learner.given_up_reason or "no reason was kept"
        return f"{adapter.title} gave the account up: {reason} (reset its has_sync_error to retry)"

    # Not eligible: which condition does the user lack? The name may find several users.
    any_user = Selection(filter=(user_condition(user),))
    page = agent.ask(
        "page", model=adapter.users.model, fields=adapter.users.paths, **any_user.request()
    )
    rows = [adapter.users.rename_columns(row) for row in page["rows"]]
    if not any(row["is_active"] for row in rows):
        return f"inactive in {adapter.title}"
    must_sign_in = adapter.users.columns["last_login"] in adapter.eligible_users.paths
    if must_sign_in and not any(row["last_login"] for row in rows):
        return f"has never signed in to {adapter.title}"
    minutes = adapter.grace_seconds // 60
    return f"{adapter.title} creates the account itself in the first {minutes} minutes"


def count_due(agent: Agent, adapter: Adapter, scope: PassScope) -> dict[str, int]:
    """Counts due accounts, enrollments and unenrollments (``count_compared`` the other kinds).
    Enrollments that become due when their learners have accounts count as due."""
    numbers = {
        kind: _count(agent, due_rows) for kind, due_rows in select_due(adapter, scope).items()
    }
    for kind, number in count_waiting(agent, adapter, scope).items():
        numbers[kind] += number
    return numbers


def count_waiting(agent: Agent, adapter: Adapter, scope: PassScope) -> dict[str, int]:
    """Counts the enrollments that become due when their learners have accounts; {} for none."""
    if ACCOUNT not in scope.kinds or ENROLLMENT not in scope.kinds:
        return {}
    waiting_rows = _enrollments_in_scope(adapter, scope, adapter.enrollments_waiting)
    number = _count(agent, waiting_rows)
    return {ENROLLMENT: number} if number else {}


def _count(agent: Agent, rows: DueRows) -> int:
    return int(agent.ask("count", model=rows.model, **rows.selection.request()))


def count_new(agent: Agent, adapter: Adapter, scope: PassScope) -> dict[str, int]:
    """Counts rows that are not due yet because they are too new: during their grace period the
    application's own code handles them. {} for none."""
    numbers = {}
    for kind, due_rows in select_due(adapter, scope).items():
        rows_of_any_age = due_rows._replace(selection=due_rows.selection.without_age_limit())
        if rows_of_any_age != due_rows:
            number = _count(agent, rows_of_any_age) - _count(agent, due_rows)
            if number > 0:
                numbers[kind] = number
    return numbers


def count_compared(session: Session, scope: PassScope) -> dict[str, int]:
    """Counts differences from the LMS, for the kinds that are found only by comparing with it."""
    numbers = {}
    if scope.includes(RUN):
        numbers[RUN] = runs.count_differing(session, only_run=scope.run)
    if scope.includes(RUN_MODE) and session.adapter.run_modes:
        batched = batch.COURSE_RUNS in _capabilities(session)
        numbers[RUN_MODE] = run_modes.count_differing(session, batched=batched, only_run=scope.run)
    if scope.includes(PROFILE):
        numbers[PROFILE] = profiles.count_differing(session, user=scope.user)
    for kind in comparing.KINDS:
        if scope.includes(kind):
            numbers[kind] = comparing.count_differing(session, kind, user=scope.user, run=scope.run)
    return numbers


def _capabilities(session: Session) -> frozenset[str]:
    """Returns the batch capabilities of the LMS. Raises SidecarError if the LMS does not return
    them now."""
    capabilities = batch.capabilities(session.lms)
    if capabilities is None:
        failure = session.lms.http.health().failure
        reason = f" ({failure.rstrip('.')})" if failure else ""
        raise SidecarError(
            f"The LMS at {session.lms.http.base_url} can't say now what its batch API offers"
            f"{reason}; nothing was changed. Run this again."
        )
    return capabilities


def reconcile_to_the_end(
    session: Session, scope: PassScope, summary: Summary, wait: Callable[[float], None]
) -> Summary:
    """Repeats ``reconcile`` while the LMS limits the rate of requests, and waits before each
    repetition. Returns ``summary``. Gives up if ``_MAX_IDLE_PASSES`` passes in a row completed no
    row: then raises the Throttled of the last pass, or returns ``summary`` if only single rows of
    that pass failed. Other errors of ``reconcile`` are raised at once.

    wait: called with the seconds to wait; an exception that it raises ends the repetitions.
    """
    idle_passes = 0
    while True:
        done_before = summary.total(DONE)
        limit_error: Throttled | None = None
        try:
            reconcile(session, scope, summary)
        except Throttled as error:
            limit_error = error
        if limit_error is None and not summary.is_rate_limited:
            return summary
        if summary.total(DONE) > done_before:
            idle_passes = 0
        else:
            idle_passes += 1
        if idle_passes == _MAX_IDLE_PASSES:
            if limit_error is not None:
                raise limit_error
            return summary
        pauses = [_MIN_PAUSE_SECONDS, *session.lms.http.health().throttled.values()]
        if limit_error is not None and limit_error.retry_after:
            pauses.append(limit_error.retry_after)
        wait(max(pauses))
        summary.prepare_another_pass()


def reconcile(session: Session, scope: PassScope, summary: Summary) -> Summary:
    """Runs one pass over the rows of ``scope``, and adds their results to ``summary``, which it
    returns. Accounts come first, because enrollments need them. Raises SidecarError, LmsError."""
    capabilities = _capabilities(session)
    has_account_batches = batch.ACCOUNTS in capabilities
    has_enrollment_batches = batch.ENROLLMENTS in capabilities

    # Kinds that are due according to the application's own tables.
    due = select_due(session.adapter, scope)
    if ACCOUNT in due:
        reconcile_accounts(session, due[ACCOUNT].selection, summary, batched=has_account_batches)
    if ENROLLMENT in due:
        reconcile_enrollments(
            session, due[ENROLLMENT].selection, summary, batched=has_enrollment_batches
        )
    if UNENROLLMENT in due:
        reconcile_enrollments(
            session,
            due[UNENROLLMENT].selection,
            summary,
            batched=has_enrollment_batches,
            unenrolls=True,
        )

    # Kinds that are found only by comparing with the LMS.
    if scope.includes(RUN):
        reconcile_runs(
            session,
            summary,
            only_run=scope.run,
            changed_within_seconds=scope.changed_within_seconds,
        )
    if scope.includes(RUN_MODE):
        reconcile_run_modes(
            session,
            summary,
            batched=batch.COURSE_RUNS in capabilities,
            only_run=scope.run,
            changed_within_seconds=scope.changed_within_seconds,
        )
    if scope.includes(PROFILE):
        reconcile_profiles(
            session,
            summary,
            batched=has_account_batches,
            user=scope.user,
            changed_within_seconds=scope.changed_within_seconds,
        )
    for kind in comparing.KINDS:
        if kind == comparing.ADOPT and scope.changed_within_seconds is not None:
            # No column of the application shows when the LMS got an enrollment that only it has.
            continue
        if scope.includes(kind):
            comparing.reconcile_compared(
                session,
                kind,
                summary,
                batched=has_enrollment_batches,
                user=scope.user,
                run=scope.run,
                changed_within_seconds=scope.changed_within_seconds,
            )
    return summary
