"""What the LMS changed by itself is found although its message was lost."""

from usher.application.accounts.services import ensure_account
from usher.application.engine.changes import pull_changes
from usher.application.engine.models import Watermark
from usher.application.engine.services import reconcile
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run

DEMO = "course-v1:edX+DemoX+Demo_Course"


def again():
    """As the sweep does a minute later."""
    Watermark.objects.update(asked_at="2020-01-01T00:00:00Z")
    return pull_changes()


def test_an_enrollment_that_was_changed_there_becomes_due(batched, settings):
    settings.USHER_WEBHOOK_SECRET = "messages are refused from here on"
    user = batched.learner()
    ensure_account(user)
    enroll(user, ensure_run(DEMO))
    assert reconcile(["account", "enrollment"]).failed == 0
    pull_changes()
    reconcile(["run", "mode", "enrollment"])
    name = user.lms_account.username
    again()
    assert not Enrollment.objects.get().next_attempt_at
    batched.lms.shell(
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.get(user__username={name!r}).change_mode('verified')"
    )
    assert again() >= 1
    assert Enrollment.objects.get().next_attempt_at is not None
    reconcile(["enrollment"])
    assert batched.enrollments(name) == {DEMO: ("audit", True)}


def test_a_new_run_there_is_a_new_run_here(batched):
    pull_changes()
    key = "course-v1:New+Run+1"
    batched.lms.shell(
        f"from usher.embedded.home.seeds import run; run({key!r}, 'New', (None,) * 4)"
    )
    again()
    assert reconcile(["run"]).failed == 0
    assert CourseRun.objects.get(course_key=key).title == "New"


def test_the_lms_is_not_asked_more_often_than_needed(batched):
    pull_changes()
    before = Watermark.objects.get(what="accounts").asked_at
    pull_changes()
    assert Watermark.objects.get(what="accounts").asked_at == before


def test_without_the_batch_road_there_is_nothing_to_ask(joined):
    assert pull_changes() == 0
    assert not Watermark.objects.exists()
