"""Grades, certificates and profiles by the public APIs of a real embedded LMS."""

from uuid import uuid4

import pytest

from tests.application.conftest import forget_clients
from tests.support.impostors import Impostor
from usher.application.accounts.models import LmsProfile, Retirement
from usher.application.accounts.services import deactivate
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.records.models import Certificate, Grade
from usher.application.runs.models import RunModes
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.engine.services import open_gates, recheck, reconcile

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture
def learner(system):
    """A learner with an LMS account and an enrollment in the demonstration course."""
    user = system.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    return user


def test_a_recheck_reads_grades(system, learner):
    recheck(["grade"])
    summary = reconcile(["grade"])
    assert summary.failed == 0, summary.failures
    grade = Grade.objects.get(user=learner)
    assert grade.is_settled
    assert grade.percent == 0.0
    assert grade.passed is False


def create_certificate(system, user):
    """Gives the user a certificate in the LMS."""
    name = user.lms_account.username
    system.lms.shell(
        "from usher.embedded.certificates.models import GeneratedCertificate as G; "
        "from django.contrib.auth import get_user_model as g; "
        f"G.objects.create(user=g().objects.get(username={name!r}), course_id={DEMO!r}, "
        "status='downloadable', mode='verified', grade='0.93', name='x', "
        f"verify_uuid={uuid4().hex!r})"
    )


def test_certificates_that_are_all_missing_are_kept(system, learner, faulty):
    """Requests for certificates reach another server, which answers with an empty list."""
    other = system.learner()
    enroll(other, ensure_run(DEMO), reconcile_now=True)
    for user in (learner, other):
        create_certificate(system, user)
    recheck(["certificate"])
    assert reconcile(["certificate"]).failed == 0
    faulty.impostor = Impostor(
        "empty", content_type="application/json", body=b"[]", only=("/api/certificates/",)
    )
    forget_clients()
    summary = reconcile(["certificate"], made_due=recheck(["certificate"]))
    assert {failure.code for failure in summary.failures} == {"too-many-missing"}
    assert set(Certificate.objects.values_list("status", flat=True)) == {"downloadable"}
    faulty.impostor = None
    # The removal of a single certificate is accepted.
    system.lms.shell(
        "from usher.embedded.certificates.models import GeneratedCertificate as G; "
        f"G.objects.filter(user__username={other.lms_account.username!r}).delete()"
    )
    forget_clients()
    open_gates(["certificate"])
    assert reconcile(["certificate"], made_due=recheck(["certificate"])).failed == 0
    assert Certificate.objects.get(user=other).status == ""
    assert Certificate.objects.get(user=learner).status == "downloadable"


def test_records_are_shown_with_the_learner_and_the_run(system, learner):
    create_certificate(system, learner)
    recheck(["grade", "certificate"])
    reconcile(["grade", "certificate"])
    run = ensure_run(DEMO)
    token = LmsToken.objects.get(user=learner)
    assert str(token).startswith(f"token of {learner}")
    for row, beginning in (
        (Enrollment.objects.get(user=learner), f"{learner}"),
        (Grade.objects.get(user=learner), f"grade of {learner}"),
        (Certificate.objects.get(user=learner), f"certificate of {learner}"),
        (RunModes.objects.get(run=run), "modes of"),
    ):
        assert str(row).startswith(beginning)
        assert str(row).endswith(str(run))


def test_a_recheck_reads_certificates(system, learner):
    create_certificate(system, learner)
    recheck(["certificate"])
    summary = reconcile(["certificate"])
    assert summary.failed == 0, summary.failures
    certificate = Certificate.objects.get(user=learner)
    assert certificate.status == "downloadable"
    assert certificate.is_settled


def test_the_record_of_a_learner_without_certificate_is_settled(system, learner):
    recheck(["certificate"])
    assert reconcile(["certificate"]).failed == 0
    assert Certificate.objects.get(user=learner).status == ""


def test_a_new_name_is_sent_with_the_learners_token(system, learner):
    learner.name = "Another Name"
    learner.save()
    summary = reconcile(["profile", "token"])
    assert summary.failed == 0, summary.failures
    assert system.account(learner.lms_account.username)["name"] == "Another Name"
    assert LmsProfile.objects.get(user=learner).observed_name == "Another Name"


def test_a_new_email_address_is_refused_without_usher_in_the_lms(system, learner):
    learner.email = f"new-{learner.email}"
    learner.save()
    reconcile(["profile"])
    row = LmsProfile.objects.get(user=learner)
    assert row.refused_at is not None
    assert row.error_code == "email-needs-usher-lms"


def test_a_deactivation_is_refused_without_usher_in_the_lms(system, learner):
    deactivate(learner)
    summary = reconcile(["account"])
    assert summary.failures[0].code == "deactivation-by-hand"
    assert "usher.lms" in summary.failures[0].message


def test_a_deleted_learner_creates_a_retirement(system, learner):
    name = learner.lms_account.username
    learner.delete()
    row = Retirement.objects.get(username=name)
    reconcile(["retirement"])
    row.refresh_from_db()
    # The public API can't deactivate an account, so a person must do it.
    assert row.error_code == "retirement-by-hand"


def test_a_save_without_changes_for_the_lms_sends_nothing(
    system, learner, django_assert_num_queries
):
    learner.last_login = None
    with django_assert_num_queries(1):  # only the UPDATE of the user
        learner.save(update_fields=["last_login"])
    assert not LmsProfile.objects.exists()
