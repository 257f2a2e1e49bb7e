"""One pass: what the application's own tables say is due, and nothing else.

The sidecar keeps no state. What is due is read from the application, and what was achieved is
written back before the next batch, so a pass that was killed is finished by the next.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from usher.client import batch
from usher.sidecar import comparing, details, runs
from usher.sidecar.accounts import ACCOUNT, reconcile_accounts
from usher.sidecar.adapters.adapter import Adapter, Selection
from usher.sidecar.details import PROFILE, reconcile_profiles
from usher.sidecar.enrollments import ENROLLMENT, UNENROLLMENT, reconcile_enrollments
from usher.sidecar.errors import SidecarError
from usher.sidecar.learners import learners
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import Outcome
from usher.sidecar.process import Agent
from usher.sidecar.run_modes import RUN_MODE, count_lacking, reconcile_run_modes
from usher.sidecar.runs import RUN, reconcile_runs

KINDS = (ACCOUNT, ENROLLMENT, RUN, RUN_MODE, UNENROLLMENT, PROFILE, *comparing.KINDS)
#: Without being asked for: none ends an enrollment or overwrites anything in the LMS.
USUAL = (ACCOUNT, ENROLLMENT, RUN, RUN_MODE)


@dataclass(frozen=True)
class Asked:
    """user: e-mail or username, run: its key; '' for all. changed_in: only what the application
    changed in so many seconds; None for all."""

    kinds: Collection[str] = USUAL
    user: str = ""
    run: str = ""
    changed_in: float | None = None

    def takes(self, kind: str) -> bool:
        """Whether a kind is asked for; with a user given, those of course runs are not."""
        return kind in self.kinds and not (kind in (RUN, RUN_MODE) and self.user)


def due(
    adapter: Adapter, asked: Asked, *, waiting: bool = False
) -> dict[str, tuple[str, Selection]]:
    """Returns kind -> table, and which of its rows are due. waiting: enrollments that are not
    due before their learners have accounts."""
    found: dict[str, tuple[str, Selection]] = {}
    if ACCOUNT in asked.kinds:
        users = adapter.users_due
        if asked.user:
            users = users.also([{"email": asked.user}, {"username": asked.user}])
        if asked.changed_in is not None:
            users = users.also(adapter.changed_users(asked.changed_in))
        found[ACCOUNT] = (adapter.users.model, users)
    for kind, rows in (
        (ENROLLMENT, adapter.enrollments_waiting if waiting else adapter.enrollments_due),
        (UNENROLLMENT, adapter.unenrollments_due),
    ):
        if kind not in asked.kinds:
            continue
        if asked.user:
            rows = rows.also([{"user__email": asked.user}, {"user__username": asked.user}])
        if asked.run:
            rows = rows.also({adapter.enrollments.columns["course"]: asked.run})
        if asked.changed_in is not None:
            rows = rows.also(adapter.newly_due_enrollments(asked.changed_in))
        found[kind] = (adapter.enrollments.model, rows)
    return found


def check(agent: Agent, adapter: Adapter, asked: Asked) -> None:
    """Raises SidecarError for a user or a course run that the application does not have: with one
    that is misspelt nothing would ever be due."""
    if asked.user:
        user = Selection().also([{"email": asked.user}, {"username": asked.user}])
        if not agent.ask("count", model=adapter.users.model, **user.request()):
            raise SidecarError(
                f"{adapter.title} has no user with the username or e-mail address {asked.user!r}."
            )
    if asked.run:
        run = Selection(filter=({adapter.runs.columns["course"]: asked.run},))
        if not agent.ask("count", model=adapter.runs.model, **run.request()):
            form = "" if runs.is_key(asked.run) else " A key is course-v1:<org>+<course>+<run>."
            raise SidecarError(f"{adapter.title} has no course run {asked.run!r}.{form}")


def why_not_taken(agent: Agent, adapter: Adapter, user: str) -> str:
    """Returns why nothing is done for a user, in words; '' for one for whom everything is."""
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


def count_due(agent: Agent, adapter: Adapter, asked: Asked) -> dict[str, int]:
    """Counts what is due, with the enrollments that become due with the accounts."""
    found = {
        kind: agent.ask("count", model=model, **selection.request())
        for kind, (model, selection) in due(adapter, asked).items()
    }
    for kind, number in count_waiting(agent, adapter, asked).items():
        found[kind] += number
    return found


def count_waiting(agent: Agent, adapter: Adapter, asked: Asked) -> dict[str, int]:
    """Counts the enrollments that become due when their learners have accounts; {} for none."""
    if ACCOUNT not in asked.kinds or ENROLLMENT not in asked.kinds:
        return {}
    model, waiting = due(adapter, asked, waiting=True)[ENROLLMENT]
    number = agent.ask("count", model=model, **waiting.request())
    return {ENROLLMENT: number} if number else {}


def count_compared(sides: Opened, asked: Asked) -> dict[str, int]:
    """Counts differences from the LMS, of the kinds that only a comparison shows."""
    found = {}
    if asked.takes(RUN):
        found[RUN] = runs.count_differing(sides, asked.run)
    if asked.takes(RUN_MODE) and sides.adapter.run_modes:
        batched = batch.COURSE_RUNS in _offered(sides)
        found[RUN_MODE] = count_lacking(sides, batched=batched, only=asked.run)
    if asked.takes(PROFILE):
        found[PROFILE] = details.count_differing(sides, asked.user)
    for kind in comparing.KINDS:
        if asked.takes(kind):
            found[kind] = comparing.count_differing(sides, kind, asked.user, asked.run)
    return found


def _offered(sides: Opened) -> frozenset[str]:
    """Returns what the LMS does in batches. Raises SidecarError."""
    found = batch.capabilities(sides.lms)
    if found is None:
        failure = sides.lms.http.health().failure
        reason = f" ({failure.rstrip('.')})" if failure else ""
        raise SidecarError(
            f"The LMS at {sides.lms.http.base_url} can't say now what its batch API offers"
            f"{reason}; nothing was changed. Run this again."
        )
    return found


def reconcile(sides: Opened, asked: Asked, outcome: Outcome) -> Outcome:
    """Reconciles accounts first, because enrollments need them. Raises SidecarError, LmsError."""
    known = _offered(sides)
    accounts, enrollments = batch.ACCOUNTS in known, batch.ENROLLMENTS in known
    selections = {kind: selection for kind, (_, selection) in due(sides.adapter, asked).items()}
    if ACCOUNT in selections:
        reconcile_accounts(sides, selections[ACCOUNT], outcome, batched=accounts)
    for kind, ends in ((ENROLLMENT, False), (UNENROLLMENT, True)):
        if kind in selections:
            reconcile_enrollments(sides, selections[kind], outcome, batched=enrollments, ends=ends)
    if asked.takes(RUN):
        reconcile_runs(sides, outcome, asked.run, asked.changed_in)
    if asked.takes(RUN_MODE):
        reconcile_run_modes(
            sides,
            outcome,
            batched=batch.COURSE_RUNS in known,
            only=asked.run,
            changed_in=asked.changed_in,
        )
    if asked.takes(PROFILE):
        reconcile_profiles(
            sides, outcome, batched=accounts, user=asked.user, changed_in=asked.changed_in
        )
    for kind in comparing.KINDS:
        # What only the LMS has no column of the application says.
        if asked.takes(kind) and not (kind == comparing.ADOPT and asked.changed_in is not None):
            comparing.reconcile_compared(
                sides,
                kind,
                outcome,
                batched=enrollments,
                user=asked.user,
                run=asked.run,
                changed_in=asked.changed_in,
            )
    return outcome
