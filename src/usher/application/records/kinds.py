"""How the engine copies grades and certificates from the LMS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from django.db import models

from usher.application.accounts import waiting
from usher.application.enrollments.models import Enrollment
from usher.application.lms.context import LmsContext
from usher.application.lms.evidence import sample_of
from usher.application.lms.kind import ACCOUNT, LmsKind
from usher.application.records.answers import Answers
from usher.application.records.models import Certificate, Grade
from usher.application.runs.kinds import malformed_key_outcome
from usher.client.client import LmsClient
from usher.client.payloads import ObservedCertificate
from usher.engine.kinds import Job, Outcome
from usher.engine.options import options
from usher.engine.summary import Failure

_ROWS_A_PAGE = 1000


class _CopiedKind(LmsKind):
    """A kind with one row for each learner and run, whose values are copied from the LMS. Rows wait
    until the learner has an LMS account."""

    run_field = "run_id"
    related = ("run",)
    annotations = ACCOUNT

    def prepare(self, rows: Sequence[Any], context: LmsContext) -> list[tuple[Job, Outcome | None]]:
        waiting_errors = waiting.errors_by_user(
            {row.user_id for row in rows if not row.account_is_ready}
        )
        prepared: list[tuple[Job, Outcome | None]] = []
        for row in rows:
            name = row.lms_username or ""
            error = waiting_errors.get(row.user_id)
            outcome = Outcome(error=error, is_waiting=True) if error else None
            prepared.append((Job(row, self.display_name(row, name), name), outcome))
        return prepared

    def before_recheck(self, user: Any = None, related_to: Any = None) -> Failure | None:
        create_missing_rows(self.model)
        return None


def create_missing_rows(model: type[models.Model]) -> None:
    """Creates a row of ``model`` for each enrollment that is active here and in the LMS and has
    none."""
    last_pk = 0
    enrollments = Enrollment.objects.filter(is_active=True, observed_is_active=True)
    while True:
        page = list(
            enrollments.filter(pk__gt=last_pk)
            .order_by("pk")
            .values_list("pk", "user_id", "run_id")[:_ROWS_A_PAGE]
        )
        if not page:
            return
        model._default_manager.bulk_create(
            [model(user_id=user_id, run_id=run_id) for _, user_id, run_id in page],
            ignore_conflicts=True,
        )
        last_pk, _, _ = page[-1]


class GradeKind(_CopiedKind):
    """Copies grades from the LMS."""

    name = "grade"
    model = Grade
    observed_fields = ("percent", "passed", "letter")

    def act(self, job: Job, context: LmsContext) -> Outcome:
        if outcome := malformed_key_outcome(job.row.run):
            return outcome
        grade = context.lms.grade(job.data, job.row.run.course_key)
        if grade is None:  # the row keeps its values
            return Outcome()
        return _outcome(
            job, {"percent": grade.percent, "passed": grade.passed, "letter": grade.letter}
        )


class CertificateKind(_CopiedKind):
    """Copies certificates from the LMS. All certificates of a learner are read by one request."""

    name = "certificate"
    model = Certificate
    observed_fields = (
        "status",
        "certificate_type",
        "is_passing",
        "grade",
        "download_url",
        "issued_at",
    )

    def prepare(self, rows: Sequence[Any], context: LmsContext) -> list[tuple[Job, Outcome | None]]:
        # Only a certificate that the LMS had can be missing.
        if any(row.status for row in rows):
            context.evidence.offer("certificate", _known_certificates)
        return super().prepare(rows, context)

    def act(self, job: Job, context: LmsContext) -> Outcome:
        key = job.row.run.course_key
        certificates = _certificates(job, context.lms)
        of_run = (certificate for certificate in certificates if certificate.course_key == key)
        certificate = next(of_run, None)
        if certificate is None:
            if job.row.status:
                context.lms.confirm_lms()
                # A single known certificate is this one, which the LMS may have revoked.
                context.evidence.require_any(
                    "certificate", lambda known: _has_certificate(context.lms, *known), min_known=2
                )
            return _outcome(job, {"status": "", "download_url": ""})
        return _outcome(job, {name: getattr(certificate, name) for name in self.observed_fields})


def _known_certificates() -> tuple[int, list[tuple[str, str]]]:
    """The number of certificates that the LMS is known to have, and a sample of them: username and
    course key."""
    rows = Certificate.objects.exclude(status="")
    with_account = rows.filter(user__lms_account__created_in_lms_at__isnull=False)
    return sample_of(with_account, "user__lms_account__username", "run__course_key")


def _has_certificate(lms: LmsClient, username: str, course_key: str) -> bool:
    return any(certificate.course_key == course_key for certificate in lms.certificates(username))


#: The answers about certificates of each client's LMS.
_answers: WeakKeyDictionary[LmsClient, Answers] = WeakKeyDictionary()


def _certificates(job: Job, lms: LmsClient) -> Sequence[ObservedCertificate]:
    """All certificates of the learner. Raises LmsError."""
    row = job.row
    return _answers.setdefault(lms, Answers()).get_or_request(
        job.data,
        lambda: lms.certificates(job.data),
        lease_owner=row.lease_owner,
        # The claim set ``lease_until`` to the time of the claim plus the length of the lease.
        claimed_at=row.lease_until - timedelta(seconds=options().lease_seconds),
        due_since=row.due_at,
    )


def _outcome(job: Job, values: dict[str, Any]) -> Outcome:
    changed = any(getattr(job.row, name) != value for name, value in values.items())
    return Outcome(values, changed=changed)
