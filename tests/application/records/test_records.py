"""Grades, certificates and profiles by the public APIs of a real embedded LMS."""

import pytest

from usher.application.accounts.models import LmsProfile, Retirement
from usher.application.accounts.services import deactivate
from usher.application.engine.services import recheck, reconcile
from usher.application.enrollments.services import enroll
from usher.application.records.models import Certificate, Grade
from usher.application.runs.services import ensure_run

DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def learner(joined):
    user = joined.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    return user


def test_grades_are_pulled(joined, learner):
    recheck(["grade"])
    summary = reconcile(["grade"])
    assert summary.failed == 0, summary.failures
    grade = Grade.objects.get(user=learner)
    assert grade.is_settled
    assert grade.percent == 0.0
    assert grade.passed is False


def test_certificates_are_pulled(joined, learner):
    name = learner.lms_account.username
    joined.lms.shell(
        "from usher.embedded.certificates.models import GeneratedCertificate as G; "
        "from django.contrib.auth import get_user_model as g; "
        f"G.objects.create(user=g().objects.get(username={name!r}), course_id={DEMO!r}, "
        "status='downloadable', mode='verified', grade='0.93', name='x', "
        "verify_uuid='0' * 32)"
    )
    recheck(["certificate"])
    summary = reconcile(["certificate"])
    assert summary.failed == 0, summary.failures
    certificate = Certificate.objects.get(user=learner)
    assert certificate.status == "downloadable"
    assert certificate.is_settled


def test_no_certificate_is_an_answer_too(joined, learner):
    recheck(["certificate"])
    assert reconcile(["certificate"]).failed == 0
    assert Certificate.objects.get(user=learner).status == ""


def test_a_new_name_goes_by_the_learners_own_token(joined, learner):
    learner.name = "Another Name"
    learner.save()
    summary = reconcile(["profile", "token"])
    assert summary.failed == 0, summary.failures
    assert joined.account(learner.lms_account.username)["name"] == "Another Name"
    assert LmsProfile.objects.get(user=learner).observed_name == "Another Name"


def test_a_new_email_needs_usher_in_the_lms(joined, learner):
    learner.email = f"new-{learner.email}"
    learner.save()
    reconcile(["profile"])
    row = LmsProfile.objects.get(user=learner)
    assert row.parked_at is not None
    assert row.error_code == "email-needs-usher-lms"


def test_switching_off_is_for_a_person_where_the_lms_does_not_let_us(joined, learner):
    deactivate(learner)
    summary = reconcile(["account"])
    assert summary.failures[0].code == "deactivation-by-hand"
    assert "usher.lms" in summary.failures[0].message


def test_a_deleted_learner_leaves_a_task(joined, learner):
    name = learner.lms_account.username
    learner.delete()
    row = Retirement.objects.get(username=name)
    reconcile(["retirement"])
    row.refresh_from_db()
    assert row.parked_at is not None or row.is_settled


def test_a_save_that_the_lms_is_not_told_about(joined, learner, django_assert_num_queries):
    learner.last_login = None
    with django_assert_num_queries(1):
        learner.save(update_fields=["last_login"])
    assert not LmsProfile.objects.exists()
