"""Compares the application with the LMS and changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from usher.client import batch
from usher.client.errors import NotThere
from usher.client.payloads import ListedEnrollment, ObservedAccount, moment
from usher.sidecar import records, runs
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.comparing import EnrollmentPair, mode_differs, pairs_of
from usher.sidecar.learners import Learner, read_learners
from usher.sidecar.parallel import in_parallel
from usher.sidecar.records import CERTIFICATE, GRADE
from usher.sidecar.run_modes import RUN_MODE, compare_modes
from usher.sidecar.session import Session

KINDS = ("account", "enrollment", "run", RUN_MODE, GRADE, CERTIFICATE)
#: The kinds compared by default. Grades need a request for each run, and certificates one for each
#: learner.
DEFAULT_KINDS = ("account", "enrollment", "run", RUN_MODE)
#: Concurrent requests to the LMS.
_CONCURRENCY = 8


@dataclass(frozen=True)
class Difference:
    """what: the learner or the run, or both. difference: a description. waiting: whether ``usher
    reconcile``, or the application itself, will remove the difference."""

    kind: str
    what: str
    difference: str
    waiting: bool = False


def drift(session: Session, kinds: Collection[str] = DEFAULT_KINDS) -> Iterator[Difference]:
    """Yields differences as they are found. Raises LmsError, SidecarError."""
    if "account" in kinds or "enrollment" in kinds:
        yield from _compare_learners(session, kinds)
    if "run" in kinds:
        yield from _compare_runs(session)
    if RUN_MODE in kinds:
        yield from _compare_run_modes(session)
    if GRADE in kinds:
        for learner_and_run, difference in records.compare_grades(session):
            yield Difference(GRADE, learner_and_run, difference)
    if CERTIFICATE in kinds:
        for learner_and_run, difference in records.compare_certificates(session):
            yield Difference(CERTIFICATE, learner_and_run, difference)


def _compare_learners(session: Session, kinds: Collection[str]) -> Iterator[Difference]:
    """Compares learners. Reads pages one after another, and sends requests about several pages at a
    time."""

    def compare_page(page: list[Learner]) -> list[Difference]:
        return differences_of(session, page, kinds)

    pages = read_learners(session.agent, session.adapter)
    with in_parallel(compare_page, pages, concurrency=_CONCURRENCY) as results:
        for differences in results:
            yield from differences


def differences_of(
    session: Session, page: list[Learner], kinds: Collection[str]
) -> list[Difference]:
    """Returns the differences of these learners' accounts and enrollments; the other ``kinds`` are
    ignored. Raises LmsError."""
    usernames = [learner.username for learner in page if learner.username]
    accounts = session.lms.accounts(usernames) if usernames else {}
    differences: list[Difference] = []
    if "account" in kinds:
        for learner in page:
            differences += _compare_account(learner, accounts.get(learner.username))
    if "enrollment" in kinds:
        lms_enrollments: dict[str, list[ListedEnrollment]] = defaultdict(list)
        usernames_in_lms = [username for username in usernames if username in accounts]
        if usernames_in_lms:
            for enrollment in session.lms.enrollments_of(usernames_in_lms):
                lms_enrollments[enrollment.username].append(enrollment)
        for learner in page:
            differences += _compare_enrollments(
                session.adapter, learner, lms_enrollments[learner.username]
            )
    return differences


def _compare_account(learner: Learner, account: ObservedAccount | None) -> Iterator[Difference]:
    """Compares a learner with the account of this username in the LMS; None if there is none."""

    def for_a_person(text: str) -> Difference:
        return Difference("account", learner.shown_name, text)

    def for_reconcile(text: str) -> Difference:
        # An account that the application gave up is left to a person: no program removes the
        # difference.
        return Difference("account", learner.shown_name, text, waiting=not learner.given_up)

    username = learner.username
    if account is None:
        if learner.has_account:
            yield for_a_person(f"{username} does not exist in the LMS; recorded here as created")
        else:
            yield for_reconcile("no account in the LMS yet")
        return
    if not learner.has_account:
        yield for_reconcile(f"{username} exists in the LMS; not recorded here")
    if account.email and account.email.lower() != learner.email.lower():
        yield for_a_person(f"the LMS has another e-mail for {username}: {account.email}")
    if learner.name and account.name and account.name != learner.name:
        yield for_a_person(f"the name is {learner.name!r} here, {account.name!r} in the LMS")
    if not account.is_active:
        yield for_a_person(f"{username} is inactive in the LMS")
    if not learner.has_token:
        yield for_reconcile("no token of the LMS")


def _compare_enrollments(
    adapter: Adapter, learner: Learner, lms_enrollments: list[ListedEnrollment]
) -> Iterator[Difference]:
    for pair in pairs_of(learner, lms_enrollments):
        what = f"{learner.shown_name} in {pair.course}"
        if pair.row is None:
            if pair.in_lms is not None and pair.in_lms.is_active:
                text = f"enrolled in the LMS; {_own_state_without_active_row(pair)}"
                yield Difference("enrollment", what, text)
        elif pair.in_lms is None or not pair.in_lms.is_active:
            if pair.row.enrolled:
                lms_state = "not enrolled" if pair.in_lms is None else "unenrolled"
                yield Difference("enrollment", what, f"{lms_state} in the LMS; recorded here")
            else:
                yield Difference("enrollment", what, "not enrolled in the LMS yet", waiting=True)
        else:
            if not pair.row.enrolled:
                text = "enrolled in the LMS; not recorded here"
                yield Difference("enrollment", what, text, waiting=True)
            if mode_differs(adapter, pair):
                text = f"mode {pair.row.mode} here, {pair.in_lms.mode} in the LMS"
                yield Difference("enrollment", what, text)


def _own_state_without_active_row(pair: EnrollmentPair) -> str:
    """Returns ``no record here``, or how the application's row ended, such as ``refunded here``."""
    if pair.ended_row is None:
        return "no record here"
    return f"{pair.ended_row.change_status or 'inactive'} here"


def _compare_run_modes(session: Session) -> Iterator[Difference]:
    """Compares the modes that the runs offer, and the deadlines of the paid mode."""
    batched = batch.COURSE_RUNS in (batch.capabilities(session.lms) or ())
    for page in compare_modes(session, batched=batched):
        for run in page:
            course = run.row["course"]
            # The comparison of runs reports runs that the LMS lacks.
            if run.error is not None and not isinstance(run.error, NotThere):
                yield Difference(RUN_MODE, course, run.error.message)
            for mode in run.missing_modes:
                text = f"offered as {mode.slug} in the LMS, not here"
                yield Difference(RUN_MODE, course, text, waiting=True)
            if run.new_deadline:
                own_deadline = runs.as_text(moment(run.row["deadline"]))
                lms_deadline = runs.as_text(run.new_deadline)
                text = f"upgrade deadline {own_deadline} here, {lms_deadline} in the LMS"
                yield Difference(RUN_MODE, course, text, waiting=True)


def _compare_runs(session: Session) -> Iterator[Difference]:
    """Compares titles and dates. Differing values that the application would refuse together are
    one difference."""
    for page in runs.compare_runs(session):
        for run in page:
            course = run.row["course"]
            if run.error is not None:
                yield Difference("run", course, run.error.message)
            elif run.in_lms is None:
                yield Difference("run", course, "the LMS does not list it")
            differing_values = []
            for name, lms_value in run.changes.items():
                own_text = runs.as_text(runs.own_value(run.row, name))
                lms_text = runs.as_text(lms_value)
                differing_values.append(f"{name} {own_text} here, {lms_text} in the LMS")
            if run.refusal:
                refusal = runs.refusal_text(session.adapter.title, run)
                yield Difference(
                    "run", course, f"{', '.join(differing_values)}; {refusal}", waiting=run.is_due
                )
            else:
                for text in differing_values:
                    yield Difference("run", course, text, waiting=run.is_due)
