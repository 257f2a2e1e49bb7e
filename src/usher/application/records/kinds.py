"""How the engine copies grades and certificates from the LMS."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from django.db import models

from usher.application.accounts.services import usernames
from usher.application.enrollments.models import Enrollment
from usher.application.lms.context import LmsContext
from usher.application.lms.evidence import sample_of
from usher.application.lms.kind import LmsKind
from usher.application.records.answers import Answers
from usher.application.records.models import Certificate, Grade
from usher.client.client import LmsClient
from usher.client.errors import LmsError
from usher.client.payloads import CertificateSeen
from usher.engine.kinds import Job, Outcome
from usher.engine.options import options

_ROWS = 1000


class _Pulled(LmsKind):
    """A kind with one row for each learner and run, whose values are copied from the LMS. Rows wait
    until the learner has an LMS account."""

    run_field = "run_id"
    related = ("run",)

    def prepare(self, rows: Sequence[Any], context: LmsContext) -> list[tuple[Job, Outcome | None]]:
        ids = {row.user_id for row in rows}
        names, ready = usernames(ids)
        prepared: list[tuple[Job, Outcome | None]] = []
        for row in rows:
            name = names.get(row.user_id, "")
            job = Job(row, self.what(row, name), name)
            error = LmsError("The learner's LMS account is made first.", code="no-account")
            is_ready = row.user_id in ready
            prepared.append((job, None if is_ready else Outcome(error=error, waits=True)))
        return prepared

    def recheck_rows(self, user: Any = None, about: Any = None) -> None:
        track(self.model)


def track(model: type[models.Model]) -> None:
    """Creates a row of ``model`` for each active enrollment that has none."""
    last = 0
    enrollments = Enrollment.objects.filter(is_active=True, observed_is_active=True)
    while True:
        found = list(
            enrollments.filter(pk__gt=last)
            .order_by("pk")
            .values_list("pk", "user_id", "run_id")[:_ROWS]
        )
        if not found:
            return
        model._default_manager.bulk_create(
            [model(user_id=user_id, run_id=run_id) for _, user_id, run_id in found],
            ignore_conflicts=True,
        )
        last = found[-1][0]


class GradeKind(_Pulled):
    name = "grade"
    model = Grade
    observed_fields = ("percent", "passed", "letter")

    def act(self, job: Job, context: LmsContext) -> Outcome:
        seen = context.lms.grade(job.data, job.row.run.course_key)
        if seen is None:
            return Outcome()
        return _outcome(
            job, {"percent": seen.percent, "passed": seen.passed, "letter": seen.letter}
        )


class CertificateKind(_Pulled):
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
        if any(row.status for row in rows):
            context.evidence.offer("certificate", _certified)
        return super().prepare(rows, context)

    def act(self, job: Job, context: LmsContext) -> Outcome:
        key = job.row.run.course_key
        seen = next((c for c in _certificates(job, context.lms) if c.course_key == key), None)
        if seen is None:
            if job.row.status:
                context.lms.confirm()
                context.evidence.require_any(
                    "certificate", lambda known: _has_certificate(context.lms, *known), of=2
                )
            return _outcome(job, {"status": "", "download_url": ""})
        return _outcome(job, {name: getattr(seen, name) for name in self.observed_fields})


def _certified() -> tuple[int, list[tuple[str, str]]]:
    rows = Certificate.objects.exclude(status="")
    known = rows.filter(user__lms_account__created_in_lms_at__isnull=False)
    return sample_of(known, "user__lms_account__username", "run__course_key")


def _has_certificate(lms: LmsClient, username: str, course_key: str) -> bool:
    return any(each.course_key == course_key for each in lms.certificates(username))


_answers: WeakKeyDictionary[LmsClient, Answers] = WeakKeyDictionary()


def _certificates(job: Job, lms: LmsClient) -> Sequence[CertificateSeen]:
    """All certificates of the learner. Raises LmsError."""
    row = job.row
    return _answers.setdefault(lms, Answers()).of(
        job.data,
        lambda: lms.certificates(job.data),
        lease_owner=row.lease_owner,
        claimed_at=row.lease_until - timedelta(seconds=options().lease_seconds),
        due_since=row.next_attempt_at,
    )


def _outcome(job: Job, values: dict[str, Any]) -> Outcome:
    changed = any(getattr(job.row, name) != value for name, value in values.items())
    return Outcome(values, changed=changed)
