"""One pass over the rows that are due according to the application's own tables.

The sidecar stores nothing. It reads from the application what is due, and writes the results of
each batch back before the next, so the next pass continues where a killed one ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from usher.client import batch
from usher.client.errors import Throttled
from usher.sidecar import comparing, details, runs
from usher.sidecar.accounts import ACCOUNT, reconcile_accounts
from usher.sidecar.adapters.adapter import Adapter, Selection
from usher.sidecar.details import PROFILE, reconcile_profiles
from usher.sidecar.enrollments import ENROLLMENT, UNENROLLMENT, reconcile_enrollments
from usher.sidecar.errors import SidecarError
from usher.sidecar.learners import learners
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import DONE, Outcome
from usher.sidecar.process import Agent
from usher.sidecar.run_modes import RUN_MODE, count_lacking, reconcile_run_modes
from usher.sidecar.runs import RUN, reconcile_runs

KINDS = (ACCOUNT, ENROLLMENT, RUN, RUN_MODE, UNENROLLMENT, PROFILE, *comparing.KINDS)
#: The kinds processed by default: none of them ends an enrollment or overwrites values in the LMS.
USUAL = (ACCOUNT, ENROLLMENT, RUN, RUN_MODE)
#: Passes in a row in which the LMS's rate limit may let nothing through, and the shortest pause
#: after one, in seconds.
_IDLE_PASSES, _LEAST_PAUSE = 3, 1.0


@dataclass(frozen=True)
class Scope:
    """Which rows a pass processes. user: e-mail address or username; run: course key; '' for all.
    changed_in: only rows that the application changed in the last so many seconds; None for all."""

    kinds: Collection[str] = USUAL
    user: str = ""
    run: str = ""
    changed_in: float | None = None

    def takes(self, kind: str) -> bool:
        """Whether a kind is processed. With a user, kinds of course runs are not."""
        return kind in self.kinds and not (kind in (RUN, RUN_MODE) and self.user)


def due(
    adapter: Adapter, scope: Scope, *, waiting: bool = False
) -> dict[str, tuple[str, Selection]]:
    """Returns kind → table, and the selection of its due rows. waiting: returns the enrollments
    that become due when their learners have accounts."""
    found: dict[str, tuple[str, Selection]] = {}
    if ACCOUNT in scope.kinds:
        users = adapter.users_due
        if scope.user:
            users = users.also([{"email": scope.user}, {"username": scope.user}])
        if scope.changed_in is not None:
            users = users.also(adapter.changed_users(scope.changed_in))
        found[ACCOUNT] = (adapter.users.model, users)
    for kind, rows in (
        (ENROLLMENT, adapter.enrollments_waiting if waiting else adapter.enrollments_due),
        (UNENROLLMENT, adapter.unenrollments_due),
    ):
        if kind not in scope.kinds:
            continue
        if scope.user:
            rows = rows.also([{"user__email": scope.user}, {"user__username": scope.user}])
        if scope.run:
            rows = rows.also({adapter.enrollments.columns["course"]: scope.run})
        if scope.changed_in is not None:
            rows = rows.also(adapter.newly_due_enrollments(scope.changed_in))
        found[kind] = (adapter.enrollments.model, rows)
    return found


def check(agent: Agent, adapter: Adapter, scope: Scope) -> None:
    """Raises SidecarError for a user or a course run that the application does not have, for
    example because it is misspelt."""
    if scope.user:
        user = Selection().also([{"email": scope.user}, {"username": scope.user}])
        if not agent.ask("count", model=adapter.users.model, **user.request()):
            raise SidecarError(
                f"{adapter.title} has no user with the username or e-mail address {scope.user!r}."
            )
    if scope.run:
        run = Selection(filter=({adapter.runs.columns["course"]: scope.run},))
        if not agent.ask("count", model=adapter.runs.model, **run.request()):
            form = "" if runs.is_key(scope.run) else " A key is course-v1:<org>+<course>+<run>."
            raise SidecarError(f"{adapter.title} has no course run {scope.run!r}.{form}")


def why_not_taken(agent: Agent, adapter: Adapter, user: str) -> str:
    """Returns why nothing is done for a user; '' if there is no such reason."""
    this = Selection().also([{"email": user}, {"username": user}])
    taken = adapter.users_taken.also(*this.filter)
    page = next(iter(learners(agent, adapter, only=taken, with_enrollments=False)), [])
    for learner in page:
        if not learner.given_up:
            return ""
        reason = learner.reason or "no reason was kept"
        return f"{adapter.title} gave the account up: {reason} (reset its has_sync_error to retry)"
    found = agent.ask(
        "page", model=adapter.users.model, fields=adapter.users.paths, **this.request()
    )
    rows = [adapter.users.named(row) for row in found["rows"]]
    if not any(row["is_active"] for row in rows):
        return f"inactive in {adapter.title}"
    must_sign_in = adapter.users.columns["last_login"] in adapter.users_taken.paths
    if must_sign_in and not any(row["last_login"] for row in rows):
        return f"has never signed in to {adapter.title}"
    return f"{adapter.title} itself does it in the first {adapter.grace // 60} minutes"


def count_due(agent: Agent, adapter: Adapter, scope: Scope) -> dict[str, int]:
    """Counts due rows, including enrollments that become due when their learners have accounts."""
    found = {
        kind: agent.ask("count", model=model, **selection.request())
        for kind, (model, selection) in due(adapter, scope).items()
    }
    for kind, number in count_waiting(agent, adapter, scope).items():
        found[kind] += number
    return found


def count_waiting(agent: Agent, adapter: Adapter, scope: Scope) -> dict[str, int]:
    """Counts the enrollments that become due when their learners have accounts; {} for none."""
    if ACCOUNT not in scope.kinds or ENROLLMENT not in scope.kinds:
        return {}
    model, waiting = due(adapter, scope, waiting=True)[ENROLLMENT]
    number = agent.ask("count", model=model, **waiting.request())
    return {ENROLLMENT: number} if number else {}


def count_compared(sides: Opened, scope: Scope) -> dict[str, int]:
    """Counts differences from the LMS, for the kinds that are found only by comparing with it."""
    found = {}
    if scope.takes(RUN):
        found[RUN] = runs.count_differing(sides, scope.run)
    if scope.takes(RUN_MODE) and sides.adapter.run_modes:
        batched = batch.COURSE_RUNS in _offered(sides)
        found[RUN_MODE] = count_lacking(sides, batched=batched, only=scope.run)
    if scope.takes(PROFILE):
        found[PROFILE] = details.count_differing(sides, scope.user)
    for kind in comparing.KINDS:
        if scope.takes(kind):
            found[kind] = comparing.count_differing(sides, kind, scope.user, scope.run)
    return found


def _offered(sides: Opened) -> frozenset[str]:
    """Returns the batch capabilities of the LMS. Raises SidecarError."""
    found = batch.capabilities(sides.lms)
    if found is None:
        failure = sides.lms.http.health().failure
        reason = f" ({failure.rstrip('.')})" if failure else ""
        raise SidecarError(
            f"The LMS at {sides.lms.http.base_url} can't say now what its batch API offers"
            f"{reason}; nothing was changed. Run this again."
        )
    return found


def reconcile_to_the_end(
    sides: Opened, scope: Scope, outcome: Outcome, wait: Callable[[float], None]
) -> Outcome:
    """Like ``reconcile``. If the LMS limits the rate of requests, waits until it allows more, and
    continues; at last ends like ``reconcile`` if a limit lets nothing through.

    wait: waits so many seconds; what it raises ends the run.
    """
    idle = 0
    while True:
        done, limit = outcome.total(DONE), None
        try:
            reconcile(sides, scope, outcome)
        except Throttled as error:
            limit = error
        if limit is None and not outcome.is_limited:
            return outcome
        idle = 0 if outcome.total(DONE) > done else idle + 1
        if idle == _IDLE_PASSES:
            if limit is not None:
                raise limit
            return outcome
        pauses = [_LEAST_PAUSE, *sides.lms.http.health().throttled.values()]
        wait(max([*pauses, (limit and limit.retry_after) or 0.0]))
        outcome.try_again()


def reconcile(sides: Opened, scope: Scope, outcome: Outcome) -> Outcome:
    """Reconciles accounts first, because enrollments need them. Raises SidecarError, LmsError."""
    known = _offered(sides)
    accounts, enrollments = batch.ACCOUNTS in known, batch.ENROLLMENTS in known
    selections = {kind: selection for kind, (_, selection) in due(sides.adapter, scope).items()}
    if ACCOUNT in selections:
        reconcile_accounts(sides, selections[ACCOUNT], outcome, batched=accounts)
    for kind, ends in ((ENROLLMENT, False), (UNENROLLMENT, True)):
        if kind in selections:
            reconcile_enrollments(sides, selections[kind], outcome, batched=enrollments, ends=ends)
    if scope.takes(RUN):
        reconcile_runs(sides, outcome, scope.run, scope.changed_in)
    if scope.takes(RUN_MODE):
        reconcile_run_modes(
            sides,
            outcome,
            batched=batch.COURSE_RUNS in known,
            only=scope.run,
            changed_in=scope.changed_in,
        )
    if scope.takes(PROFILE):
        reconcile_profiles(
            sides, outcome, batched=accounts, user=scope.user, changed_in=scope.changed_in
        )
    for kind in comparing.KINDS:
        # No column of the application shows enrollments that only the LMS has.
        if scope.takes(kind) and not (kind == comparing.ADOPT and scope.changed_in is not None):
            comparing.reconcile_compared(
                sides,
                kind,
                outcome,
                batched=enrollments,
                user=scope.user,
                run=scope.run,
                changed_in=scope.changed_in,
            )
    return outcome
