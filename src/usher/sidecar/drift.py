"""Compares the application with the LMS and changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from usher.client import batch
from usher.client.errors import NotThere
from usher.client.payloads import ListedEnrollment, ObservedAccount, moment
from usher.sidecar import records, runs
from usher.sidecar.adapters.adapter import Adapter
from usher.sidecar.comparing import mode_differs, pairs_of
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
    for kind, compare in (
        (GRADE, records.compare_grades),
        (CERTIFICATE, records.compare_certificates),
    ):
        if kind in kinds:
            for learner_and_run, difference in compare(session):
                yield Difference(kind, learner_and_run, difference)


def _compare_learners(session: Session, kinds: Collection[str]) -> Iterator[Difference]:
    """Compares learners. Reads pages one after another, and sends requests about several pages at a
    time."""
    pages = read_learners(session.agent, session.adapter)
    with in_parallel(
        lambda page: differences_of(session, page, kinds), pages, concurrency=_CONCURRENCY
    ) as results:
        for differences in results:
            yield from differences


def differences_of(
    session: Session, page: list[Learner], kinds: Collection[str]
) -> list[Difference]:
    """Returns the differences of these learners. Raises LmsError."""
    names = [learner.username for learner in page if learner.username]
    accounts = session.lms.accounts(names) if names else {}
    differences: list[Difference] = []
    if "account" in kinds:
        for learner in page:
            differences += _compare_account(learner, accounts.get(learner.username))
    if "enrollment" in kinds:
        lms_enrollments: dict[str, list[ListedEnrollment]] = {}
        names_in_lms = [name for name in names if name in accounts]
        for enrollment in session.lms.enrollments_of(names_in_lms) if names_in_lms else ():
            lms_enrollments.setdefault(enrollment.username, []).append(enrollment)
        for learner in page:
            differences += _compare_enrollments(
                session.adapter, learner, lms_enrollments.get(learner.username, [])
            )
    return differences


def _compare_account(learner: Learner, account: ObservedAccount | None) -> Iterator[Difference]:
    def difference(text: str, *, waiting: bool = False) -> Difference:
        # An account that the application gave up is left to a person: no program removes the
        # difference.
        is_waiting = waiting and not learner.given_up
        return Difference("account", learner.shown_name, text, waiting=is_waiting)

    if account is None:
        if learner.has_account:
            yield difference(
                f"{learner.username} does not exist in the LMS; recorded here as created"
            )
        else:
            yield difference("no account in the LMS yet", waiting=True)
        return
    if not learner.has_account:
        yield difference(f"{learner.username} exists in the LMS; not recorded here", waiting=True)
    if account.email and account.email.lower() != learner.email.lower():
        yield difference(f"the LMS has another e-mail for {learner.username}: {account.email}")
    if learner.name and account.name and account.name != learner.name:
        yield difference(f"the name is {learner.name!r} here, {account.name!r} in the LMS")
    if not account.is_active:
        yield difference(f"{learner.username} is inactive in the LMS")
    if not learner.has_token:
        yield difference("no token of the LMS", waiting=True)


def _compare_enrollments(
    adapter: Adapter, learner: Learner, lms_enrollments: list[ListedEnrollment]
) -> Iterator[Difference]:
    for pair in pairs_of(learner, lms_enrollments):
        row, in_lms = pair.row, pair.in_lms
        what = f"{learner.shown_name} in {pair.course}"
        if row is None:
            if in_lms is not None and in_lms.is_active:
                own_state = "no record here"
                if pair.ended_row:
                    own_state = f"{pair.ended_row.change_status or 'inactive'} here"
                yield Difference("enrollment", what, f"enrolled in the LMS; {own_state}")
            continue
        if in_lms is None or not in_lms.is_active:
            state = "not enrolled" if in_lms is None else "unenrolled"
            if row.enrolled:
                yield Difference("enrollment", what, f"{state} in the LMS; recorded here")
            else:
                yield Difference("enrollment", what, "not enrolled in the LMS yet", waiting=True)
            continue
        if not row.enrolled:
            text = "enrolled in the LMS; not recorded here"
            yield Difference("enrollment", what, text, waiting=True)
        if mode_differs(adapter, pair):
            text = f"mode {row.mode} here, {in_lms.mode} in the LMS"
            yield Difference("enrollment", what, text)


def _compare_run_modes(session: Session) -> Iterator[Difference]:
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
    for page in runs.compare_runs(session):
        for run in page:
            if run.error is not None:
                yield Difference("run", run.row["course"], run.error.message)
            elif run.in_lms is None:
                yield Difference("run", run.row["course"], "the LMS does not list it")
            sentences = []
            for name, lms_value in run.changes.items():
                own_value = runs.own_value(run.row, name)
                sentences.append(
                    f"{name} {runs.as_text(own_value)} here, {runs.as_text(lms_value)} in the LMS"
                )
            if run.refusal:
                sentences = [
                    f"{', '.join(sentences)}; {runs.refusal_text(session.adapter.title, run)}"
                ]
            for text in sentences:
                yield Difference("run", run.row["course"], text, waiting=run.is_due)
