"""Changes in the LMS are found even if the webhook was lost."""

import tomllib
from pathlib import Path

import pytest

from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.lms import changes
from usher.application.lms.changes import pull_changes
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run
from usher.engine.models import Watermark
from usher.engine.services import reconcile

pytestmark = pytest.mark.each_database

ROOT = Path(__file__).resolve().parents[3]
DEMO = "course-v1:edX+DemoX+Demo_Course"


@pytest.fixture(params=[0, 1])
def connected_for_days(request, system_with_batch_api):
    """An LMS that was connected a moment ago or one day ago.

    For changes since a time before the connection, the LMS lists all rows. For changes since a
    later time, the LMS lists only the rows of its log. The log is empty, because this LMS's
    settings name no application."""
    system_with_batch_api.lms.shell(
        "from datetime import timedelta; from django.utils.timezone import now; "
        "from usher.lms.connections.models import ConnectedApplication; "
        f"long_ago = now() - timedelta(days={request.param}); "
        "ConnectedApplication.objects.update(created=long_ago)"
    )


def pull_again():
    """Asks the LMS for changes, as the next sweep would a minute later."""
    Watermark.objects.update(asked_at="2020-01-01T00:00:00Z")
    return pull_changes()


def test_an_enrollment_changed_in_the_lms_becomes_due(
    system_with_batch_api, connected_for_days, settings
):
    settings.USHER_WEBHOOK_SECRET = "messages are refused from here on"
    user = system_with_batch_api.learner()
    ensure_account(user)
    enroll(user, ensure_run(DEMO))
    assert reconcile(["account", "enrollment"]).failed == 0
    pull_changes()
    reconcile(["run", "mode", "enrollment"])
    name = user.lms_account.username
    pull_again()
    assert not Enrollment.objects.get().due_at, "nothing has changed yet"
    system_with_batch_api.lms.shell(
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"E.objects.get(user__username={name!r}).change_mode('verified')"
    )
    assert pull_again() >= 1
    assert Enrollment.objects.get().due_at is not None
    # The application's mode replaces the mode in the LMS.
    reconcile(["enrollment"])
    assert system_with_batch_api.enrollments(name) == {DEMO: ("audit", True)}


def test_a_new_run_in_the_lms_is_added(system_with_batch_api):
    pull_changes()
    key = "course-v1:New+Run+1"
    system_with_batch_api.lms.shell(
        f"from usher.embedded.home.seeds import create_run; create_run({key!r}, 'New')"
    )
    pull_again()
    assert reconcile(["run"]).failed == 0
    assert CourseRun.objects.get(course_key=key).title == "New"


@pytest.mark.parametrize(
    "invalid_key",
    ["not a key", "nul-v1:\0", "course-v1:a+b+\ud800", "", 7, None, "course-v1:a+b+" + "c" * 300],
)
def test_an_invalid_course_key_is_left_out_and_the_others_are_added(db, caplog, invalid_key):
    # A valid key of another format, which has a parser of its own.
    ccx = "ccx-v1:edX+Changed+Run+ccx@7"
    items = [
        {"course_id": invalid_key},
        {},  # an item without a key
        {"course_id": ccx},
        {"course_id": "course-v1:edX+Last+Run"},
    ]
    changes._make_runs_due(items)
    keys = set(CourseRun.objects.values_list("course_key", flat=True))
    assert keys == {ccx, "course-v1:edX+Last+Run"}
    assert "left out" in caplog.text


def test_the_extra_application_requires_the_parser_of_ccx_keys():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = project["optional-dependencies"]["application"]
    assert any(line.startswith("edx-ccx-keys") for line in requirements)


def test_malformed_changes_are_left_out_and_the_others_are_applied(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user)
    enroll(user, ensure_run(DEMO))
    assert reconcile().failed == 0
    name = user.lms_account.username
    account = {"username": name, "is_active": False}
    assert changes._make_accounts_due([{"username": "a\0"}, {"username": None}, "x", account]) == 1
    enrollment = {"username": name, "course_id": DEMO, "mode": "verified", "is_active": True}
    malformed = [enrollment | {"mode": "\ud800"}, enrollment | {"username": 3}, {"course_id": DEMO}]
    assert changes._make_enrollments_due([*malformed, enrollment]) == 1


def test_changes_are_not_pulled_again_within_the_interval(system_with_batch_api):
    pull_changes()
    asked_at = Watermark.objects.get(name="accounts").asked_at
    pull_changes()
    assert Watermark.objects.get(name="accounts").asked_at == asked_at


def test_no_changes_are_pulled_without_the_batch_api(system):
    assert pull_changes() == 0
    # This watermark is about the public API's list of enrollments, not about changes.
    assert list(Watermark.objects.values_list("name", flat=True)) == ["enrollments-listed"]
