"""Enrollments are created, changed and ended in a real embedded LMS."""

import re

import pytest
from django.utils import timezone

from tests.application.conftest import make_learner
from tests.support import faults
from tests.support.impostors import Impostor
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
E2E = "course-v1:edX+E2E-101+course"
ENROLLMENT = "/api/enrollment/v1/enrollment"
RENAME = (
    "from django.contrib.auth import get_user_model as g; "
    "g().objects.filter(username={name!r}).update(username={other!r})"
)
DATES_OF_CLOSED_RUN = {
    "start": "2019-01-01",
    "end": "2020-01-01",
    "enrollment_start": "2018-01-01",
    "enrollment_end": "2018-12-31",
}
DATES_OF_OPEN_RUN = {**DATES_OF_CLOSED_RUN, "end": "2039-01-01", "enrollment_end": "2038-12-31"}


def _seed_run(system, key, dates):
    """Creates a course run in the LMS, or changes its dates."""
    system.lms.shell(
        "from usher.embedded.home.seeds import create_run; "
        f"create_run({key!r}, 'Closed', **{dates!r})"
    )


@pytest.fixture
def run(system):
    return ensure_run(DEMO)


@pytest.mark.each_database
def test_enroll_change_mode_and_unenroll_reach_the_lms(system, run):
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


def test_enrolling_again_sends_no_second_request(system, run, faulty):
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    number_of_requests = faulty.count(ENROLLMENT)
    row = enroll(user, run, reconcile_now=True)
    assert row.is_settled
    assert row.generation == 1
    assert faulty.count(ENROLLMENT) == number_of_requests


def test_unenroll_settles_an_enrollment_that_was_never_sent(system, run):
    user = system.learner()
    enroll(user, run)
    row = unenroll(user, run, reconcile_now=True)
    assert row.is_settled, row.error_message
    # The LMS has no enrollment, or an ended one.
    _, is_active = system.enrollments(user.lms_account.username).get(DEMO, ("", False))
    assert is_active is False


def test_unenroll_settles_an_enrollment_that_was_never_sent_in_a_closed_run(system):
    closed_key = "course-v1:edX+Closed+2020"
    _seed_run(system, closed_key, DATES_OF_CLOSED_RUN)
    user = system.learner()
    enroll(user, ensure_run(closed_key))
    assert unenroll(user, ensure_run(closed_key), reconcile_now=True).is_settled


def test_an_enrollment_in_a_closed_run_is_refused_unless_it_is_forced(system):
    closed_key = "course-v1:edX+Closed+2021"
    _seed_run(system, closed_key, DATES_OF_CLOSED_RUN)
    user = system.learner()
    row = enroll(user, ensure_run(closed_key), reconcile_now=True)
    assert row.refused_at is not None
    assert closed_key in row.error_message
    row = enroll(user, ensure_run(closed_key), force=True, reconcile_now=True)
    assert row.is_settled, row.error_message
    assert row.refused_at is None


def test_an_enrollment_in_an_unknown_run_is_refused(system):
    row = enroll(system.learner(), ensure_run("course-v1:No+Such+Run"), reconcile_now=True)
    assert row.refused_at is not None
    assert row.error_code == "unknown-run"


def test_unenroll_fails_for_a_learner_who_never_enrolled(system, run):
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
def test_a_learner_whose_lms_account_was_lost_gets_a_new_account_and_enrollments(system, run):
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    name = user.lms_account.username
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.get(username={name!r}).delete()"
    )
    Enrollment.objects.filter(user=user).make_due()
    # One pass may only find that the account is lost; the next one creates it.
    reconcile(user=user)
    reconcile(user=user)
    assert system.enrollments(name) == {DEMO: ("audit", True)}
    assert LmsAccount.objects.get(user=user).is_ready


def test_a_change_in_the_lms_is_reverted(system, run):
    user = system.learner()
    enroll(user, run, "verified", reconcile_now=True)
    name = user.lms_account.username
    _change_in_lms(system, name, mode="audit", is_active=True)
    Enrollment.objects.filter(user=user).make_due()
    assert reconcile(["enrollment"], user=user).failed == 0
    assert system.enrollments(name) == {DEMO: ("verified", True)}


def _enrollment_posts(proxy):
    """The paths of the requests that were to change enrollments."""
    return [path for method, path in proxy.requests if method == "POST" and ENROLLMENT in path]


def test_a_recheck_sends_a_settled_enrollment_only_if_the_lms_differs(system, run, faulty):
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    number_of_posts = len(_enrollment_posts(faulty))
    Enrollment.objects.compare_again()
    summary = reconcile(["enrollment"], user=user)
    assert (summary.changed, summary.unchanged) == (0, 1)
    assert len(_enrollment_posts(faulty)) == number_of_posts
    _change_in_lms(system, user.lms_account.username, mode="audit", is_active=False)
    Enrollment.objects.compare_again()
    reconcile(["enrollment"], user=user)
    assert len(_enrollment_posts(faulty)) == number_of_posts + 1
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}


def test_a_recheck_reads_a_refused_enrollment_and_does_not_send_it_again(system, faulty):
    closed_key = "course-v1:edX+Closed+2022"
    _seed_run(system, closed_key, DATES_OF_CLOSED_RUN)
    user = system.learner()
    row = enroll(user, ensure_run(closed_key), reconcile_now=True)
    assert row.refused_at
    number_of_posts, message = len(_enrollment_posts(faulty)), row.error_message
    Enrollment.objects.filter(pk=row.pk).compare_again()
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert (bool(row.refused_at), row.error_message, row.due_at) == (True, message, None)
    assert len(_enrollment_posts(faulty)) == number_of_posts
    name = user.lms_account.username
    # Somebody enrolls the learner in the LMS in spite of the closed run.
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.create(user=g().objects.get(username={name!r}), course_id={closed_key!r}, "
        "mode='audit', is_active=True)"
    )
    Enrollment.objects.filter(pk=row.pk).compare_again()
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert (row.is_settled, row.refused_at, row.observed_is_active) == (True, None, True)
    assert len(_enrollment_posts(faulty)) == number_of_posts


@pytest.mark.parametrize("only_this_run", [True, False], ids=["this run", "all runs"])
def test_a_refused_enrollment_is_retried_when_its_run_opens(system, only_this_run):
    closed_key = f"course-v1:edX+Opens+{int(only_this_run)}"
    _seed_run(system, closed_key, DATES_OF_CLOSED_RUN)
    sync_runs([closed_key])
    user = system.learner()
    row = enroll(user, ensure_run(closed_key), reconcile_now=True)
    assert row.refused_at
    sync_runs([closed_key] if only_this_run else None)
    row.refresh_from_db()
    assert row.refused_at, "the run is still closed"
    _seed_run(system, closed_key, DATES_OF_OPEN_RUN)
    sync_runs([closed_key] if only_this_run else None)
    reconcile(["enrollment"], user=user)
    row.refresh_from_db()
    assert row.is_settled, row.error_message
    assert system.enrollments(user.lms_account.username)[closed_key] == ("audit", True)


def test_a_change_in_the_lms_is_kept_if_the_setting_makes_the_lms_win(system, run, settings):
    settings.USHER_ENROLLMENT_WINNER = "lms"
    user = system.learner()
    enroll(user, run, reconcile_now=True)
    name = user.lms_account.username
    _change_in_lms(system, name, mode="verified", is_active=True)
    Enrollment.objects.filter(user=user).make_due()
    assert reconcile(["enrollment"], user=user).changed == 1
    assert system.enrollments(name) == {DEMO: ("verified", True)}
    assert Enrollment.objects.get(user=user).mode == "verified"


def _change_in_lms(system, name, *, mode, is_active):
    """Changes the enrollments of the user ``name`` in the LMS, as its staff would."""
    system.lms.shell(
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.filter(user__username={name!r}).update(mode={mode!r}, is_active={is_active})"
    )


@pytest.mark.parametrize("fault", [fault for fault in faults.ALL if fault != faults.SLOW])
def test_an_enrollment_is_sent_again_after_each_fault_of_the_lms(system, run, faulty, fault):
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

    client().http.state.clear("group:enrollment")  # ends a pause after THROTTLED
    assert reconcile(["enrollment"], user=user).failed == 0
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}


def test_enrollments_stop_while_the_service_worker_is_not_staff(system, run):
    user = system.learner()
    enroll(user, run)
    reconcile(["account", "token"], user=user)
    set_staff = (
        "from django.contrib.auth import get_user_model as g; "
        "g().objects.filter(username='mit_Application_serviceworker').update(is_staff={is_staff})"
    )
    system.lms.shell(set_staff.format(is_staff=False))
    try:
        summary = reconcile(["enrollment"], user=user)
        assert summary.failures[0].failure_class == "systemic"
        assert "staff" in summary.failures[0].message
        Enrollment.objects.filter(user=user).make_due()
        assert reconcile(["enrollment"], user=user).changed == 0  # the row waits and is not sent
    finally:
        system.lms.shell(set_staff.format(is_staff=True))


def test_a_mode_that_the_run_does_not_have_is_rejected_unless_it_is_forced(system, run):
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


#: An LMS that keeps learners in audit mode.
KEEPS_AUDIT = Impostor(
    "keeps-audit",
    only=("enrollment",),
    spoil=lambda body: re.sub(rb'"mode": ?"verified"', b'"mode": "audit"', body),
)


def test_an_enrollment_whose_mode_the_lms_keeps_is_refused(
    system_with_each_api, faulty_with_each_api
):
    faulty_with_each_api.impostor = KEEPS_AUDIT
    row = enroll(system_with_each_api.learner(), ensure_run(DEMO), "verified", reconcile_now=True)
    assert row.refused_at
    assert row.error_code == "mode-kept"
    assert row.error_message == "The LMS keeps the mode audit instead of verified."


def test_a_refused_enrollment_rechecks_its_run(system):
    """The recheck of the run marks it as missing, because the LMS does not have it."""
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
    """Each attempt of the enrollment makes the learner's account due, to create it again, but not
    if the account is refused."""
    learner = make_learner()
    ensure_account(learner)
    error = LmsError("The user does not exist.", code="unknown-user")
    row = enroll(learner, ensure_run(DEMO))
    accounts = LmsAccount.objects.all()
    accounts.set_work(refused_at=timezone.now(), due_at=None, error_code="protected-account")
    kind("enrollment").settle_earlier_kinds([(Job(row, display_name="x"), Outcome(error=error))])
    assert accounts.get().error_code == "protected-account"
    accounts.set_work(refused_at=None, error_code="")
    kind("enrollment").settle_earlier_kinds([(Job(row, display_name="x"), Outcome(error=error))])
    assert accounts.get().due_at is not None


def test_an_account_that_got_the_learner_s_name_is_not_enrolled(system_with_batch_api):
    """The LMS's staff renamed two accounts, so that the account of another learner has the name
    that the learner has here. The learner's records continue when the accounts have their names
    again."""
    system, run = system_with_batch_api, ensure_run(DEMO)
    user, other_user = system.learner("owner"), system.learner("stranger")
    enroll(user, run)
    enroll(other_user, run)
    reconcile(["account", "enrollment"])
    name, other_name = user.lms_account.username, other_user.lms_account.username
    system.lms.shell(RENAME.format(name=name, other=f"{name}_new"))
    system.lms.shell(RENAME.format(name=other_name, other=name))

    ended = unenroll(user, run, reconcile_now=True)
    new = enroll(user, ensure_run(E2E), reconcile_now=True)

    assert [ended.error_code, new.error_code] == ["linked-elsewhere", "linked-elsewhere"]
    assert [ended.refused_at, new.refused_at] == [None, None]
    assert system.enrollments(name) == {DEMO: ("audit", True)}  # the other learner's
    reconcile(["account"], user=user)
    account = LmsAccount.objects.get(user=user)
    assert (account.error_code, bool(account.refused_at)) == ("linked-elsewhere", True)

    system.lms.shell(RENAME.format(name=name, other=other_name))
    system.lms.shell(RENAME.format(name=f"{name}_new", other=name))
    for model in (LmsAccount, Enrollment):
        model.objects.filter(user=user).make_due()
    reconcile(["account", "enrollment"], user=user)
    account.refresh_from_db()
    assert account.is_settled, account.error_message
    for row in (ended, new):
        row.refresh_from_db()
        assert row.is_settled, row.error_message
    assert system.enrollments(name) == {DEMO: ("audit", False), E2E: ("audit", True)}
    assert system.enrollments(other_name) == {DEMO: ("audit", True)}
