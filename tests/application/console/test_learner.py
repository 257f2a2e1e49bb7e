"""The learner's page against a real LMS: state, comparison, repair, linking, attempts."""

from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.application.console.conftest import DEMO
from usher.application.accounts.models import LmsAccount, Retirement, UsernameReservation
from usher.application.audit.models import AuditEvent
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.lms_client import client
from usher.application.runs.models import CourseMode, CourseRun
from usher.application.runs.services import ensure_run
from usher.console.models import Attempt, WorkDone, Worker
from usher.console.recording import services as recording
from usher.engine import heartbeat, observers
from usher.engine.clock import database_now
from usher.engine.gate import Gate
from usher.engine.services import reconcile

pytestmark = pytest.mark.each_database

NOWHERE = "course-v1:edX+Nowhere+1"


@pytest.fixture
def staff(superuser: Client) -> Client:
    """The browser of a superuser. Other staff would need rows of permissions: see
    ``superuser``."""
    return superuser


def post(staff: Client, user: Any, action: str, **data: Any) -> str:
    """Runs an action of the learner's page. Returns the page after it."""
    answer = staff.post(f"/staff/learners/{user.pk}/{action}/", data, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


def test_the_page_shows_a_refusal_with_its_attempts_until_a_repair(
    system: Any, staff: Client
) -> None:
    user = system.learner()
    row = enroll(user, ensure_run(NOWHERE), reconcile_now=True)
    page = staff.get(f"/staff/learners/{user.pk}/")
    page_data = page.context["learner"]
    assert page_data.verdict == ("bad", f"Not enrolled yet in {NOWHERE} as audit (refused).")
    (record,) = page_data.unsettled
    assert record.cause == row.error_message
    assert [(attempt.succeeded, attempt.message) for attempt in record.latest_attempts] == [
        (False, row.error_message)
    ]
    assert "Sent again by itself when the course run changes" in record.next
    # differs is None before the record was compared with the LMS.
    assert [
        (comparison.here, comparison.in_lms, comparison.differs)
        for comparison in record.comparisons
    ] == [("enrolled as audit", "", None)]
    assert row.error_message in unescape(page.content.decode())

    # Removes the cause of the refusal: now the run has a key that exists in the LMS.
    CourseRun.objects.filter(pk=row.run_id).update(course_key=DEMO)
    response = post(staff, user, "repair")
    assert "Repaired: 1 changed" in response
    assert system.enrollments(user.username) == {DEMO: ("audit", True)}
    assert staff.get(f"/staff/learners/{user.pk}/").context["learner"].verdict.state == "ok"
    assert AuditEvent.objects.get(name="console-repair").subject == user.username


def test_a_repair_of_a_learner_sends_nothing_of_other_learners(system: Any, staff: Client) -> None:
    user, other = system.learner(), system.learner()
    enroll(user, ensure_run(DEMO))
    enroll(other, ensure_run(DEMO))
    assert "Repaired" in post(staff, user, "repair")
    assert system.enrollments(user.username) == {DEMO: ("audit", True)}
    assert system.account(other.username) is None
    assert "There was nothing to repair." in post(staff, user, "repair")


def test_a_failed_repair_names_the_record_and_the_reason(system: Any, staff: Client) -> None:
    user = system.learner()
    enroll(user, ensure_run(NOWHERE))
    page = unescape(post(staff, user, "repair"))
    assert f"Not everything was repaired. Enrollment: No course '{NOWHERE}' found" in page


def test_a_repair_sends_nothing_through_a_closed_gate(system: Any, staff: Client) -> None:
    user = system.learner()
    enroll(user, ensure_run(DEMO))
    gate = Gate("account", client().http.state)
    gate.close()
    assert "Stopped for all learners: LMS accounts" in post(staff, user, "repair")
    assert gate.is_closed
    assert system.account(user.username) is None


def test_a_comparison_shows_differences_and_changes_no_record(system: Any, staff: Client) -> None:
    user = system.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    Enrollment.objects.filter(user=user).update(mode="verified")
    records = list(Enrollment.objects.values()), list(LmsAccount.objects.values())
    answer = staff.post(f"/staff/learners/{user.pk}/compare/")
    compared = answer.context["compared"]
    assert compared.difference_count == 1
    assert "enrolled as audit" in answer.content.decode()
    assert (list(Enrollment.objects.values()), list(LmsAccount.objects.values())) == records
    # The repair corrects the difference, although the record seems to be in sync.
    assert "Repaired: 1 changed" in post(staff, user, "repair")
    assert system.enrollments(user.username) == {DEMO: ("verified", True)}
    # The page of the run compares the run in the same way.
    run = staff.post(f"/staff/runs/{Enrollment.objects.get().run_id}/compare/")
    assert run.context["compared"].lms_run.course_key == DEMO
    assert not run.context["compared"].problem


def test_a_comparison_reports_that_the_lms_does_not_answer(
    faulty: Any, system: Any, staff: Client
) -> None:
    user = system.learner()
    run = ensure_run(DEMO)
    faulty.break_all("reset")
    assert "could not be asked" in post(staff, user, "compare")
    answer = staff.post(f"/staff/runs/{run.pk}/compare/")
    assert "could not be asked" in answer.content.decode()


def test_an_existing_account_is_linked_after_staff_confirm_the_warning(
    system: Any, staff: Client
) -> None:
    former_user = system.learner()
    enroll(former_user, ensure_run(DEMO), reconcile_now=True)
    username, email = former_user.username, former_user.email
    former_user.delete()
    # The application no longer has the user and the reservation; the LMS still has the account.
    UsernameReservation.objects.all().delete()
    Retirement.objects.all().delete()
    user = system.learner(username=username, email=email)

    answer = staff.post(f"/staff/learners/{user.pk}/compare/")
    (candidate,) = answer.context["compared"].candidates
    page = answer.content.decode()
    assert "everything that this LMS account has" in page
    assert f"Link {username}" in page
    account = {"lms_username": username, "lms_user_id": candidate.lms_user_id}
    assert "confirm that both" in post(staff, user, "link", **account)
    assert not LmsAccount.objects.filter(user=user).exists()
    # As if another account had got the username since the page was opened.
    response = post(staff, user, "link", lms_username=username, lms_user_id="99999", sure="1")
    assert "another account of that name" in response
    response = post(staff, user, "link", **account, sure="1")
    assert f"Linked here to the LMS account {username}." in response
    assert LmsAccount.objects.get(user=user).is_ready
    events = AuditEvent.objects.filter(name="console-link").order_by("pk")
    assert [event.succeeded for event in events] == [False, True]
    page = staff.get(f"/staff/learners/{user.pk}/").content.decode()
    assert "linked it to an LMS account" in page


# Records of workers


def test_attempts_counts_of_work_and_workers_are_recorded(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Otherwise this process would not count as a worker.
    monkeypatch.setattr(recording, "worker_role", lambda: "reconcile --watch")
    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)  # so that beat() writes at once
    recording.recorder._reset()  # forgets the work of earlier tests
    user = system.learner()
    enroll(user, ensure_run(NOWHERE))
    reconcile(["account", "token", "enrollment"], user=user)
    # A success at the first attempt is only counted.
    attempt = Attempt.objects.get()
    assert (attempt.kind, attempt.succeeded) == ("enrollment", False)
    counts = WorkDone.objects.get()
    assert counts.refused == 1
    assert counts.changed >= 1
    heartbeat.beat()
    worker = Worker.objects.get()
    assert worker.report["lms"]["answered_at"]
    assert worker.report["lms"]["milliseconds"]
    assert worker.report["gates"] == {}
    observers.stopped()
    assert not Worker.objects.exists()
    # Comparing a refused record with the LMS again does not count as a second attempt.
    Enrollment.objects.filter(user=user).compare_again()
    reconcile(["enrollment"], user=user)
    assert Attempt.objects.count() == 1
    CourseRun.objects.filter(course_key=NOWHERE).update(course_key=DEMO)
    Enrollment.objects.filter(user=user).set_work(refused_at=None, due_at=database_now())
    reconcile(["enrollment"], user=user)
    assert Attempt.objects.filter(succeeded=True).count() == 1


def test_an_enrollment_is_settled_though_recording_fails(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(recording.Recorder, "written", fail)
    user = system.learner()
    assert enroll(user, ensure_run(DEMO), reconcile_now=True).is_settled


def test_fewer_attempts_are_kept_as_their_number_grows() -> None:
    """All of the first eight attempts, and then only each attempt whose number is a power of 2."""
    kept_numbers = [number for number in range(1, 100) if recording._is_kept(number)]
    assert kept_numbers == [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 64]


# Information that support staff need


def page_of(staff: Client, user: Any) -> str:
    """The text of the learner's page, without HTML's escapes."""
    return unescape(staff.get(f"/staff/learners/{user.pk}/").content.decode())


def make_refused(user: Any, code: str, mode: str = "audit", **dates: Any) -> Enrollment:
    """Creates an enrollment that the LMS refused with ``code``, in a new course run. dates: date
    fields of the course run."""
    now = timezone.now()
    run = CourseRun.objects.create(course_key=f"course-v1:Why+{code}+R", title="Why", **dates)
    CourseMode.objects.create(run=run, slug="audit")
    CourseMode.objects.create(run=run, slug="verified", expires_at=now - timedelta(days=1))
    values = {"username": user.username, "reserved_at": now, "created_in_lms_at": now}
    LmsAccount.objects.get_or_create(user=user, defaults=values)
    return Enrollment.objects.create(
        user=user,
        run=run,
        mode=mode,
        attempts=1,
        error_class="rejected",
        error_code=code,
        refused_at=now,
        due_at=None,
    )


def test_the_page_shows_when_a_run_accepts_enrollments_and_in_which_modes(
    staff: Client, django_user_model: Any
) -> None:
    user = django_user_model.objects.create(username="ann", email="ann@example.org")
    past, future = timezone.now() - timedelta(days=9), timezone.now() + timedelta(days=9)
    make_refused(user, "enrollment-closed", enrollment_end=past)
    day = f"{past.day} {past:%B %Y}"
    assert f"The run accepted enrollments until {day}." in page_of(staff, user)
    make_refused(user, "enrollment-refused", enrollment_start=future)
    day = f"{future.day} {future:%B %Y}"
    assert f"The run accepts enrollments from {day}." in page_of(staff, user)
    make_refused(user, "mode-unavailable", mode="honor")
    assert "as honor (refused). It offers audit." in page_of(staff, user)
    make_refused(user, "mode-not-offered", mode="verified")
    page = page_of(staff, user)
    assert "Its mode verified ended on " in page
    # The advice names the button by the button's label.
    assert "then choose Repair now" in page
    assert "then retry" not in page


def test_the_page_of_a_learner_without_courses_links_to_similar_users(
    staff: Client, django_user_model: Any
) -> None:
    create = django_user_model.objects.create
    user = create(username="xavier", email="xavier@learners.example")
    other = create(username="xavier_work", email="xavier@work.example")
    page = page_of(staff, user)
    assert "in no course here" in page
    assert f'/staff/learners/{other.pk}/">xavier_work</a>' in page


def test_the_page_warns_about_an_account_that_could_not_get_the_learner_s_username(
    staff: Client, django_user_model: Any
) -> None:
    user = django_user_model.objects.create(username="xavier", email="xavier@learners.example")
    LmsAccount.objects.create(
        user=user,
        username="xavier_3",
        reserved_at=timezone.now(),
        created_in_lms_at=timezone.now(),
        generation=1,
        observed_generation=1,
        observed_is_active=True,
        due_at=None,
    )
    answer = staff.get(f"/staff/learners/{user.pk}/")
    assert answer.context["headline"].state == "warning"
    assert "the name xavier was taken" in answer.content.decode()
