"""Enrollments are created, changed and ended in a real embedded LMS."""

import pytest
from django.utils import timezone

from tests.application.conftest import make_learner
from tests.support import faults
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import (
    ModeNotAllowed,
    NotEnrolled,
    change_mode,
    enroll,
    unenroll,
)
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.client.errors import LmsError
from usher.engine.kinds import Job, Outcome
from usher.engine.registry import kind
from usher.engine.services import reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"
ENROLLMENT = "/api/enrollment/v1/enrollment"


@pytest.fixture
def run(system):
    return ensure_run(DEMO)


@pytest.mark.each_database
def test_enroll_change_mode_unenroll_and_come_back(system, run):
    user = system.learner()
    row = enroll(user, run, reconcile_now=True)
    assert row.is_settled, row.error_message
    name = user.lms_account.username
    assert system.enrollments(name) == {DEMO: ("audit", True)}
    assert change_mode(user, run, "verified", reconcile_now=True).is_settled
    assert system.enrollments(name) == {DEMO: ("verified", True)}
    row = unenroll(user, run, reconcile_now=True)
    assert row.is_settled, row.error_message
    assert system.enrollments(name) == {DEMO: ("verified", False)}
    with pytest.raises(NotEnrolled, match="has ended"):
        change_mode(user, run, "audit")
    assert enroll(user, run, "audit", reconcile_now=True).is_settled
    assert system.enrollments(name) == {DEMO: ("audit", True)}


def test_a_learner_is_enrolled_in_the_free_mode(system_with_each_api):
    """The example in CONTRIBUTING.md."""
    user = system_with_each_api.learner()
    row = enroll(user, ensure_run(DEMO), reconcile_now=True)
    assert row.is_settled, row.error_message
    username = user.lms_account.username
    assert system_with_each_api.enrollments(username) == {DEMO: ("audit", True)}


def test_enrolling_twice_sends_once(system, run, faulty):
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    before = faulty.count(ENROLLMENT)
    row = enroll(user, run, reconcile_now=True)
    assert row.is_settled
    assert row.generation == 1
    assert faulty.count(ENROLLMENT) == before


def test_unenrolling_without_an_enrollment_in_the_lms(system, run):
    user = system.learner()
    enroll(user, run)
    row = unenroll(user, run, reconcile_now=True)
    assert row.is_settled, row.error_message
    assert system.enrollments(user.lms_account.username).get(DEMO, ("", False))[1] is False


def test_unenrolling_from_a_closed_run_without_an_enrollment(system):
    closed = "course-v1:edX+Closed+2020"
    system.lms.shell(
        "from usher.embedded.home.seeds import create_run; "
        f"create_run({closed!r}, 'Closed', "
        "('2019-01-01', '2020-01-01', '2018-01-01', '2018-12-31'))"
    )
    user = system.learner()
    enroll(user, ensure_run(closed))
    assert unenroll(user, ensure_run(closed), reconcile_now=True).is_settled


def test_a_closed_run_is_refused_with_the_lms_s_message_and_can_be_forced(system):
    closed = "course-v1:edX+Closed+2021"
    system.lms.shell(
        "from usher.embedded.home.seeds import create_run; "
        f"create_run({closed!r}, 'Closed', "
        "('2019-01-01', '2020-01-01', '2018-01-01', '2018-12-31'))"
    )
    user = system.learner()
    row = enroll(user, ensure_run(closed), reconcile_now=True)
    assert row.refused_at is not None
    assert closed in row.error_message
    row = enroll(user, ensure_run(closed), force=True, reconcile_now=True)
    assert row.is_settled, row.error_message
    assert row.refused_at is None


def test_an_unknown_run_is_refused_with_its_reason(system):
    row = enroll(system.learner(), ensure_run("course-v1:No+Such+Run"), reconcile_now=True)
    assert row.refused_at is not None
    assert row.error_code == "unknown-run"


def test_unenrolling_needs_an_enrollment(system, run):
    with pytest.raises(NotEnrolled):
        unenroll(system.learner(), run)


@pytest.mark.each_database
def test_an_enrollment_waits_for_its_account(system, run):
    user = system.learner()
    row = enroll(user, run)
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert row.error_code == "no-account"
    assert row.attempts == 0
    summary = reconcile(user=user)
    assert summary.failed == 0
    row.refresh_from_db()
    assert row.is_settled
    assert row.error_code == ""


@pytest.mark.each_database
def test_a_learner_whom_the_lms_lost_gets_a_new_account_and_enrollments(system, run):
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    name = user.lms_account.username
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.get(username={name!r}).delete()"
    )
    Enrollment.objects.filter(user=user).make_due()
    reconcile(user=user)
    reconcile(user=user)
    assert system.enrollments(name) == {DEMO: ("audit", True)}
    assert LmsAccount.objects.get(user=user).is_ready


def test_a_change_in_the_lms_is_reverted(system, run):
    user = system.learner()
    enroll(user, run, "verified", reconcile_now=True)
    name = user.lms_account.username
    _change_in_lms(system, name, "audit", True)
    Enrollment.objects.filter(user=user).make_due()
    assert reconcile(["enrollment"], user=user).failed == 0
    assert system.enrollments(name) == {DEMO: ("verified", True)}


def _posts(proxy):
    return [path for method, path in proxy.requests if method == "POST" and ENROLLMENT in path]


def test_a_settled_enrollment_is_compared_and_not_sent_again(system, run, faulty):
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    count = len(_posts(faulty))
    Enrollment.objects.recheck()
    summary = reconcile(["enrollment"], user=user)
    assert (summary.changed, summary.unchanged) == (0, 1)
    assert len(_posts(faulty)) == count
    _change_in_lms(system, user.lms_account.username, "audit", False)
    Enrollment.objects.recheck()
    reconcile(["enrollment"], user=user)
    assert len(_posts(faulty)) == count + 1
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}


CLOSED_UNTIL = ("2019-01-01", "2020-01-01", "2018-01-01", "2018-12-31")
OPEN_AGAIN = ("2019-01-01", "2039-01-01", "2018-01-01", "2038-12-31")


def _seed_run(system, key, dates):
    system.lms.shell(
        f"from usher.embedded.home.seeds import create_run; create_run({key!r}, 'Closed', {dates})"
    )


def test_a_refused_enrollment_is_compared_and_not_sent_again(system, faulty):
    closed = "course-v1:edX+Closed+2022"
    _seed_run(system, closed, CLOSED_UNTIL)
    user = system.learner()
    row = enroll(user, ensure_run(closed), reconcile_now=True)
    assert row.refused_at
    count, words = len(_posts(faulty)), row.error_message
    Enrollment.objects.filter(pk=row.pk).recheck()
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert (bool(row.refused_at), row.error_message, row.due_at) == (True, words, None)
    assert len(_posts(faulty)) == count
    name = user.lms_account.username
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.create(user=g().objects.get(username={name!r}), course_id={closed!r}, "
        "mode='audit', is_active=True)"
    )
    Enrollment.objects.filter(pk=row.pk).recheck()
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert (row.is_settled, row.refused_at, row.observed_is_active) == (True, None, True)
    assert len(_posts(faulty)) == count


@pytest.mark.parametrize("keys", [True, False], ids=["this run", "all runs"])
def test_a_refused_enrollment_is_retried_when_its_run_opens(system, keys):
    closed = f"course-v1:edX+Opens+{int(keys)}"
    _seed_run(system, closed, CLOSED_UNTIL)
    sync_runs([closed])
    user = system.learner()
    row = enroll(user, ensure_run(closed), reconcile_now=True)
    assert row.refused_at
    sync_runs([closed] if keys else None)
    row.refresh_from_db()
    assert row.refused_at, "nothing changed"
    _seed_run(system, closed, OPEN_AGAIN)
    sync_runs([closed] if keys else None)
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert row.is_settled, row.error_message
    assert system.enrollments(user.lms_account.username)[closed] == ("audit", True)


def test_a_change_in_the_lms_is_kept_if_the_setting_says_so(system, run, settings):
    settings.USHER_ENROLLMENT_WINNER = "lms"
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    name = user.lms_account.username
    _change_in_lms(system, name, "verified", True)
    Enrollment.objects.filter(user=user).make_due()
    assert reconcile(["enrollment"], user=user).changed == 1
    assert system.enrollments(name) == {DEMO: ("verified", True)}
    assert Enrollment.objects.get(user=user).mode == "verified"


def _change_in_lms(system, name, mode, active):
    system.lms.shell(
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.filter(user__username={name!r}).update(mode={mode!r}, is_active={active})"
    )


@pytest.mark.parametrize("fault", [f for f in faults.ALL if f != faults.SLOW])
def test_no_fault_loses_an_enrollment(system, run, faulty, fault):
    user = system.learner()
    row = enroll(user, run)
    reconcile(["account", "token"], user=user)
    faulty.break_next(fault, path=ENROLLMENT, times=2)
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert not row.is_settled
    assert row.refused_at is None
    assert row.due_at is not None
    faulty.mend()
    Enrollment.objects.filter(user=user).make_due()
    from usher.application.lms_client import client

    client().http.state.clear("group:enrollment")
    assert reconcile(["enrollment"], user=user).failed == 0
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}


def test_a_service_worker_who_is_not_staff_stops_the_kind(system, run):
    user = system.learner()
    enroll(user, run)
    reconcile(["account", "token"], user=user)
    worker = "from django.contrib.auth import get_user_model as g; g().objects.filter("
    worker += "username='mit_Application_serviceworker').update(is_staff={})"
    system.lms.shell(worker.format(False))
    try:
        summary = reconcile(["enrollment"], user=user)
        assert summary.failures[0].failure_class == "systemic"
        assert "staff" in summary.failures[0].message
        Enrollment.objects.filter(user=user).make_due()
        assert reconcile(["enrollment"], user=user).changed == 0  # the row waits and is not sent
    finally:
        system.lms.shell(worker.format(True))


def test_a_mode_that_the_run_does_not_have_is_refused_before_it_is_stored(system, run):
    from usher.application.models import CourseMode

    user = system.learner()
    CourseMode.objects.create(run=run, slug="audit")
    with pytest.raises(ModeNotAllowed, match="it has audit"):
        enroll(user, run, "verified")
    assert not Enrollment.objects.exists()
    enroll(user, run)
    with pytest.raises(ModeNotAllowed):
        change_mode(user, run, "verified")
    assert enroll(user, run, "verified", force=True).mode == "verified"


def test_a_refusal_rechecks_the_run(system):
    """The check marks a run that was deleted in the LMS as missing. A later check notices that the
    run exists again."""
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    run = ensure_run("course-v1:Nobody+Knows+This")
    CourseRun.objects.filter(pk=run.pk).set_work(due_at=None)
    row = enroll(user, run)
    reconcile(["enrollment"])
    row.refresh_from_db()
    assert row.refused_at
    reconcile(["run"])
    run.refresh_from_db()
    assert run.missing_since


def test_an_enrollment_of_an_unknown_learner_leaves_a_refused_account_refused(transactional_db):
    """Retries of the enrollment must not make the refused account due."""
    learner = make_learner()
    ensure_account(learner)
    error = LmsError("The user does not exist.", code="unknown-user")
    row = enroll(learner, ensure_run(DEMO))
    accounts = LmsAccount.objects.all()
    accounts.set_work(refused_at=timezone.now(), due_at=None, error_code="protected-account")
    kind("enrollment").settle_earlier_kinds([(Job(row, ""), Outcome(error=error))])
    assert accounts.get().error_code == "protected-account"
    accounts.set_work(refused_at=None, error_code="")
    kind("enrollment").settle_earlier_kinds([(Job(row, ""), Outcome(error=error))])
    assert accounts.get().due_at is not None
