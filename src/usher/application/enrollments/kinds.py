"""How the engine reconciles enrollments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from usher.application.accounts import waiting
from usher.application.accounts.models import LmsAccount
from usher.application.audit.services import Event, record_many
from usher.application.enrollments import adoption
from usher.application.enrollments.models import Enrollment
from usher.application.lms.context import LmsContext
from usher.application.lms.evidence import TooManyMissing, sample_of
from usher.application.lms.kind import ACCOUNT, LmsKind
from usher.application.lms.options import LMS, options
from usher.application.runs.models import CourseRun, RunModes, problem_of_key
from usher.client import batch
from usher.client.client import LmsClient
from usher.client.errors import BadAnswer, EnrollmentRefused, LmsError, Refused
from usher.client.payloads import ObservedEnrollment, read_enrollment
from usher.contract.failures import MALFORMED, FailureClass, RegistrationError
from usher.contract.limits import BATCH_ITEMS_A_REQUEST
from usher.engine.kinds import Job, Outcome
from usher.engine.summary import Failure


@dataclass(frozen=True)
class EnrollmentData:
    """The data of an enrollment's job.

    username: the learner's, in the LMS. mode, is_active: the desired state. force: enroll even when
    enrollment is closed in the LMS. compare_first: read the LMS, and send nothing if it has the
    desired state. adopt: record the LMS's state here and send nothing. refusal: for a refused row,
    the LMS's last answer; None for other rows. Refused rows are compared with the LMS and not sent
    again.
    """

    username: str
    course_key: str
    mode: str
    is_active: bool
    force: bool
    compare_first: bool = False
    adopt: bool = False
    refusal: EnrollmentRefused | None = None

    def matches(self, observed: ObservedEnrollment | None) -> bool:
        """Whether the LMS has the desired state. observed: the enrollment in the LMS; None if the
        LMS has no such enrollment."""
        if not self.is_active:  # the mode of an ended enrollment is ignored
            return observed is None or not observed.is_active
        return observed is not None and observed.is_active and observed.mode == self.mode


class EnrollmentKind(LmsKind):
    """Enrolls and unenrolls learners, changes modes, and records enrollments that were made in the
    LMS. ``Kind`` says when each method is called."""

    name = "enrollment"
    model = Enrollment
    observed_fields = ("observed_mode", "observed_is_active")
    batch_capability = batch.ENROLLMENTS
    batch_size = BATCH_ITEMS_A_REQUEST
    run_field = "run_id"
    related = ("run",)
    annotations = ACCOUNT

    def prepare(self, rows: Sequence[Any], context: LmsContext) -> list[tuple[Job, Outcome | None]]:
        lms_wins = options().enrollment_winner == LMS
        # Only if the LMS wins is a missing enrollment recorded here as ended.
        if lms_wins and any(row.is_settled and row.observed_is_active for row in rows):
            context.evidence.offer("enrollment", _known_enrollments)
        waiting_errors = waiting.errors_by_user(
            {row.user_id for row in rows if not row.account_is_ready}
        )
        prepared: list[tuple[Job, Outcome | None]] = []
        for row in rows:
            name = row.lms_username or ""
            display_name = self.display_name(row, name)
            problem = problem_of_key(row.run.course_key)
            if not problem and (error := waiting_errors.get(row.user_id)):
                prepared.append((Job(row, display_name), Outcome(error=error, is_waiting=True)))
                continue
            refusal = None
            if row.refused_at:
                refusal = EnrollmentRefused(row.error_message, code=row.error_code)
            data = EnrollmentData(
                username=name,
                course_key=row.run.course_key,
                mode=row.mode,
                is_active=row.is_active,
                force=row.force,
                compare_first=row.is_settled or refusal is not None,
                # A row without a mode was created for an enrollment that was made in the LMS.
                adopt=row.is_settled and (lms_wins or not row.mode),
                refusal=refusal,
            )
            outcome = Outcome(error=Refused(problem, code=MALFORMED)) if problem else None
            prepared.append((Job(row, display_name, data), outcome))
        return prepared

    def act(self, job: Job, context: LmsContext) -> Outcome:
        try:
            return self._act(job, context)
        except EnrollmentRefused as error:
            raise _temporary_without_own_account(error) from error

    def _act(self, job: Job, context: LmsContext) -> Outcome:
        """Reads the LMS where the job's data says so, and sends what differs. Raises LmsError."""
        data: EnrollmentData = job.data
        if data.compare_first:
            enrollment = context.lms.enrollment(data.username, data.course_key)
            if data.adopt and enrollment is None and job.row.observed_is_active:
                # The LMS keeps records of ended enrollments, so it should know this one.
                context.evidence.require(
                    "enrollment", lambda known_pairs: _count_missing(context.lms, known_pairs)
                )
            if data.adopt or data.matches(enrollment):
                observed = enrollment or ObservedEnrollment(data.mode, is_active=False)
                return _outcome(job, observed, adopt=data.adopt)
            if data.refusal:  # the LMS still lacks the desired state: the row stays refused
                raise data.refusal
        if not data.is_active:
            return _outcome(job, _unenroll(data, context))
        observed = context.lms.enroll(
            data.username,
            data.course_key,
            mode=data.mode,
            is_active=True,
            force=data.force,
        )
        _require_desired_state(data, observed)
        return _outcome(job, observed)

    def act_many(self, jobs: Sequence[Job], context: LmsContext) -> list[Outcome]:
        items = [_batch_item(job) for job in jobs if not _only_reads(job)]
        results = batch.send(context.lms, batch.ENROLLMENTS, items) if items else {}
        return [self._read_batch_result(job, results, context) for job in jobs]

    def _read_batch_result(
        self, job: Job, results: dict[Any, dict[str, Any]], context: LmsContext
    ) -> Outcome:
        """The job's outcome. results: of the batch API, row's id → result; without jobs that only
        read, which use the public API."""
        try:
            if _only_reads(job):
                return self.act(job, context)
            result = batch.result_of(results, job.row.pk)
            if result["status"] == "refused":
                refusal = batch.refusal_of(result, EnrollmentRefused)
                if job.data.is_active or refusal.code == RegistrationError.LINKED_ELSEWHERE:
                    raise refusal
                return self.act(job, context)  # finds out whether the learner is enrolled
            observed = read_enrollment(result)
            _require_desired_state(job.data, observed)
            outcome = _outcome(job, observed)
            outcome.changed = result["status"] == "changed"
            return outcome
        except LmsError as error:
            return Outcome(error=_temporary_without_own_account(error))

    def settle_earlier_kinds(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Rechecks accounts that the LMS does not have under the learner's username, and runs in
        which the LMS refused learners.

        If the check finds that the run is missing or that its modes changed, the refused
        enrollments are sent again as soon as the run or the mode exists. Accounts that were refused
        stay refused.
        """
        LmsAccount.objects.not_refused().make_due_after(
            job.row
            for job, outcome in results
            if outcome.error and outcome.error.code in waiting.NO_OWN_ACCOUNT
        )
        refusing_runs = {
            job.row.run_id
            for job, outcome in results
            if isinstance(outcome.error, EnrollmentRefused)
        }
        if refusing_runs:
            CourseRun.objects.filter(pk__in=refusing_runs).compare_again()
            RunModes.objects.filter(run_id__in=refusing_runs).compare_again()

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """For jobs with ``adopt``, saves the LMS's state as the desired state. Writes the audit
        log."""
        for job, outcome in results:
            if isinstance(outcome.extra, ObservedEnrollment):
                _save_lms_state(job, outcome.extra)
        record_many(_events(results))

    def before_recheck(self, user: Any = None, related_to: Any = None) -> Failure | None:
        """Creates rows for enrollments that exist only in the LMS. Not for a single run, since this
        reads the enrollments of each learner."""
        if user is None and related_to is not None:
            return None
        try:
            adoption.adopt_all(user)
        except LmsError as error:
            return Failure.from_error(self.name, "list of the LMS", error)
        return None


def _require_desired_state(data: EnrollmentData, observed: ObservedEnrollment) -> None:
    """Raises LmsError when the LMS's answer differs from the request."""
    if observed.is_active != data.is_active:
        raise BadAnswer("The LMS's answer shows the enrollment as it was before the change.")
    if not data.matches(observed):
        raise EnrollmentRefused(
            f"The LMS keeps the mode {observed.mode} instead of {data.mode}.", code="mode-kept"
        )


def _only_reads(job: Job) -> bool:
    """Whether the job only reads the LMS. Such a job must not use the batch API, which always
    writes."""
    return bool(job.data.adopt or job.data.refusal)


def _unenroll(data: EnrollmentData, context: LmsContext) -> ObservedEnrollment:
    """Unenrolls the learner. Also succeeds if the LMS refuses because the learner is not
    enrolled."""
    try:
        # '' names no mode. If the LMS then assumes another mode than the learner's, it answers
        # ``mode-mismatch``, and the request is repeated below with the learner's mode.
        return context.lms.enroll(data.username, data.course_key, mode="", is_active=False)
    except EnrollmentRefused as error:
        if error.code == "unknown-user":
            raise
        observed = context.lms.enrollment(data.username, data.course_key)
        if observed is None or not observed.is_active:
            mode = observed.mode if observed else data.mode
            return ObservedEnrollment(mode, is_active=False)
        if error.code != "mode-mismatch":
            raise
        return context.lms.enroll(
            data.username, data.course_key, mode=observed.mode, is_active=False
        )


def _save_lms_state(job: Job, observed: ObservedEnrollment) -> None:
    """Saves the LMS's state as the desired state, unless the desired state changed in the
    meantime."""
    rows = Enrollment.objects.filter(pk=job.row.pk, generation=job.generation)
    if observed.is_active or job.row.mode:
        rows.update(mode=observed.mode, is_active=observed.is_active)
    else:
        rows.delete()  # created by ``adoption.adopt``, and the LMS has no such enrollment


def _events(results: Sequence[tuple[Job, Outcome]]) -> Iterator[Event]:
    """Audit events: enrollments that changed in the LMS, were found there, or were refused. A
    refusal with the error code that the row already has is no event."""
    for job, outcome in results:
        if job.data is None:  # nothing was sent: the row waits for the learner's account
            continue
        row: Enrollment = job.row
        run, error = job.data.course_key, outcome.error
        if error is None:
            name, detail = _change_event(row, outcome)
            if name:
                yield Event(name, job.data.username, detail={"run": run} | detail)
        elif error.failure_class == FailureClass.REJECTED and row.error_code != error.code:
            name = "enrollment-refused" if row.is_active else "unenrollment-refused"
            detail = {"run": run, "mode": row.mode, "error_code": error.code}
            yield Event(name, job.data.username, succeeded=False, detail=detail)


def _change_event(row: Enrollment, outcome: Outcome) -> tuple[str, dict[str, Any]]:
    """The name and detail of the audit event about what happened to the enrollment in the LMS since
    the row's last outcome; the name is '' for nothing. row: with the values from before this
    outcome."""
    mode, is_active = outcome.values["observed_mode"], outcome.values["observed_is_active"]
    if not is_active:
        return ("unenrolled" if row.observed_is_active else "", {})
    if isinstance(outcome.extra, ObservedEnrollment) and not row.mode:
        return "enrollment-from-lms", {"mode": mode}
    if not row.observed_is_active:
        return "enrolled", {"mode": mode}
    if row.observed_mode != mode:
        return "enrollment-mode-changed", {"mode": mode, "before": row.observed_mode}
    # Either nothing changed, or somebody changed the enrollment in the LMS and this job undid that.
    return ("enrolled" if outcome.changed else "", {"mode": mode})


def _known_enrollments() -> tuple[int, list[tuple[str, str]]]:
    """The number of enrollments that were seen in the LMS, and a sample: usernames and course
    keys."""
    observed = Enrollment.objects.filter(observed_is_active=True)
    return sample_of(observed, "user__lms_account__username", "run__course_key")


def _count_missing(lms: LmsClient, pairs: Sequence[tuple[str, str]]) -> int:
    """How many of these enrollments have no record in the LMS, which also keeps records of ended
    enrollments. Raises TooManyMissing when the LMS has no record of any. pairs: usernames and
    course keys."""
    names = dict.fromkeys(name for name, _ in pairs)
    in_lms = {
        (enrollment.username, enrollment.course_key)
        # A malformed enrollment, of whichever learner, counts as missing and raises no error.
        for enrollment in lms.enrollments_of(names, on_malformed=lambda error: None)
    }
    missing = sum(pair not in in_lms for pair in pairs)
    if missing == len(pairs):
        raise TooManyMissing(
            f"The LMS has none of {missing} known enrollments, so nothing was concluded or "
            "changed. Is another database behind the LMS's address? If the LMS really lost the "
            "enrollments, run the command again with --accept-missing."
        )
    return missing


def _outcome(job: Job, observed: ObservedEnrollment, *, adopt: bool = False) -> Outcome:
    """The outcome of a success. It counts as changed if the LMS's state differs from the state last
    seen there. adopt: the outcome also passes the LMS's state to ``settle``, and counts as changed
    if that state differs from the desired state."""
    row: Enrollment = job.row
    values = {"observed_mode": observed.mode, "observed_is_active": observed.is_active}
    lms_state = (observed.mode, observed.is_active)
    if adopt:
        return Outcome(values, changed=(row.mode, row.is_active) != lms_state, extra=observed)
    return Outcome(values, changed=(row.observed_mode, row.observed_is_active) != lms_state)


def _batch_item(job: Job) -> dict[str, Any]:
    data: EnrollmentData = job.data
    return {
        "id": job.row.pk,
        "username": data.username,
        # Usher's applications name a learner at sign-in by the LMS username. If the account of that
        # name is linked to another learner, because it was renamed, the LMS refuses the item.
        "uid": data.username,
        "course_id": data.course_key,
        # Unenrolling does not change the mode in the LMS, as with the public API.
        "mode": data.mode if data.is_active else "",
        "is_active": data.is_active,
        "force": data.force,
    }


def _temporary_without_own_account(error: LmsError) -> LmsError:
    """A temporary error in place of the refusal of a learner whose account the LMS does not have
    under the username; any other error as it is. The account is rechecked: it is created again, or
    shows that it was renamed."""
    if isinstance(error, EnrollmentRefused) and error.code in waiting.NO_OWN_ACCOUNT:
        return LmsError(error.message, code=error.code, status=error.status)
    return error
