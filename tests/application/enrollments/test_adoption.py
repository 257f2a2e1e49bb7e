"""Enrollments that somebody created in the LMS are recorded in the application."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from tests.support.impostors import Impostor
from usher.application.accounts.services import ensure_account
from usher.application.audit.models import AuditEvent
from usher.application.enrollments.adoption import ENROLLMENTS_LISTED
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.lms.changes import pull_changes
from usher.application.lms.drift import drift
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run
from usher.application.webhooks.services import process_message
from usher.engine.models import Watermark
from usher.engine.services import recheck, reconcile

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"
E2E = "course-v1:edX+E2E-101+course"


def learner_with_account(system):
    user = system.learner("instructed")
    ensure_account(user)
    assert reconcile(["account"]).failed == 0
    return user


@pytest.fixture
def learner(system_with_each_api):
    """A learner with an LMS account and no enrollment."""
    return learner_with_account(system_with_each_api)


@pytest.fixture
def learner_of_public_api(system):
    """As ``learner``, with the public API only."""
    return learner_with_account(system)


def enroll_in_lms(system_with_each_api, user, key=DEMO, mode="audit", is_active=True):
    """Enrolls the user in the LMS, as an instructor does. is_active: False for an enrollment that
    has ended."""
    end = "" if is_active else "row.update_enrollment(is_active=False)"
    system_with_each_api.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        "from opaque_keys.edx.keys import CourseKey as K; "
        "from usher.embedded.student.models import CourseEnrollment as E; "
        f"row = E.enroll(g().objects.get(username={user.lms_account.username!r}), "
        f"K.from_string({key!r}), mode={mode!r}); " + end
    )


def pull_changes_a_minute_later():
    """Asks the LMS for changes, as if the last sweep were a minute ago."""
    Watermark.objects.update(asked_at=timezone.now() - timedelta(minutes=1))
    return pull_changes()


def receive_message(event_id, username, course_id):
    """Processes a message of the LMS about a changed enrollment."""
    assert process_message(
        event_id, kind="enrollment.changed", username=username, course_id=course_id
    ), "the message was processed before"


def recorded_enrollments(user):
    """The application's enrollments of a user: course key → (mode, whether it is active)."""
    return {
        row.run.course_key: (row.mode, row.is_active)
        for row in Enrollment.objects.filter(user=user).select_related("run")
    }


def test_the_next_sweep_records_an_enrollment_made_in_the_lms(system_with_each_api, learner):
    pull_changes()
    enroll_in_lms(system_with_each_api, learner, mode="verified")
    pull_changes_a_minute_later()
    assert reconcile(["enrollment"]).failed == 0
    assert recorded_enrollments(learner) == {DEMO: ("verified", True)}
    event = AuditEvent.objects.get(name="enrollment-from-lms")
    assert (event.subject, event.detail["run"]) == (learner.lms_account.username, DEMO)
    row = Enrollment.objects.get()
    assert row.is_settled
    assert (row.observed_mode, row.observed_is_active) == ("verified", True)
    # The application can change and end the recorded enrollment.
    assert change_mode(learner, row.run, "audit", reconcile_now=True).is_settled
    assert system_with_each_api.enrollments(learner.lms_account.username) == {DEMO: ("audit", True)}
    assert unenroll(learner, row.run, reconcile_now=True).is_settled
    pull_changes_a_minute_later()
    reconcile(["enrollment"], made_due=recheck(["enrollment"]))
    assert recorded_enrollments(learner) == {DEMO: ("audit", False)}


@pytest.mark.any_database
def test_a_malformed_enrollment_does_not_stop_the_others_from_being_recorded(
    system, faulty, learner_of_public_api
):
    """All learners are read in turn. If the malformed enrollment failed the request, each sweep
    would ask for the same learners."""
    enroll_in_lms(system, learner_of_public_api)

    def spoil(body):
        """Adds an enrollment whose mode can't be stored to a list of enrollments."""
        page = json.loads(body)
        good = page["results"][0]
        page["results"].insert(0, good | {"course_id": E2E, "mode": ["no text"]})
        return json.dumps(page).encode()

    faulty.impostor = Impostor("malformed", spoil=spoil, only=("/enrollment/v1/enrollments",))
    pull_changes()
    assert set(recorded_enrollments(learner_of_public_api)) == {DEMO}
    assert Watermark.objects.filter(name=ENROLLMENTS_LISTED).exists()


def test_a_message_records_an_enrollment_made_in_the_lms(system_with_each_api, learner):
    enroll_in_lms(system_with_each_api, learner)
    # The LMS ignores case in usernames.
    receive_message("instructor-1", learner.lms_account.username.upper(), DEMO)
    assert reconcile(["enrollment"]).failed == 0
    assert recorded_enrollments(learner) == {DEMO: ("audit", True)}


def test_a_recheck_of_one_learner_records_only_this_learner_s_enrollments(
    system_with_each_api, learner
):
    other = system_with_each_api.learner()
    ensure_account(other)
    reconcile(["account"])
    for user in (learner, other):
        enroll_in_lms(system_with_each_api, user)
    enroll_in_lms(system_with_each_api, learner, E2E)
    reconcile(["enrollment"], user=learner, made_due=recheck(["enrollment"], user=learner))
    assert recorded_enrollments(learner) == {DEMO: ("audit", True), E2E: ("audit", True)}
    assert recorded_enrollments(other) == {}
    reconcile(["enrollment"], made_due=recheck(["enrollment"]))
    assert recorded_enrollments(other) == {DEMO: ("audit", True)}
    assert list(drift(["enrollment"])) == []


def test_an_enrollment_that_ended_in_the_lms_is_not_recorded(system_with_each_api, learner):
    enroll_in_lms(system_with_each_api, learner, is_active=False)
    # About an enrollment that has ended, and about one that never existed.
    receive_message("ended-1", learner.lms_account.username, DEMO)
    receive_message("never-1", learner.lms_account.username, E2E)
    assert Enrollment.objects.count() == 2  # until they are compared with the LMS
    assert reconcile(["enrollment"]).failed == 0
    assert recorded_enrollments(learner) == {}
    pull_changes_a_minute_later()
    assert recorded_enrollments(learner) == {}


def test_an_enrollment_of_the_learner_takes_precedence_over_one_made_in_the_lms(
    system_with_each_api, learner
):
    """A message reports that an enrollment was made in the LMS. Before Usher reads the enrollment,
    the learner enrolls in the application, in another mode."""
    enroll_in_lms(system_with_each_api, learner, mode="verified")
    receive_message("meanwhile-1", learner.lms_account.username, DEMO)
    assert enroll(learner, ensure_run(DEMO), "audit", reconcile_now=True).is_settled
    assert recorded_enrollments(learner) == {DEMO: ("audit", True)}
    assert system_with_each_api.enrollments(learner.lms_account.username) == {DEMO: ("audit", True)}


@pytest.mark.parametrize("winner", ["application", "lms"])
def test_an_enrollment_made_in_the_lms_is_recorded_with_each_winner(
    system_with_each_api, learner, settings, winner
):
    settings.USHER_ENROLLMENT_WINNER = winner
    enroll_in_lms(system_with_each_api, learner)
    reconcile(["enrollment"], made_due=recheck(["enrollment"]))
    assert recorded_enrollments(learner) == {DEMO: ("audit", True)}
    # The enrollment is recorded now, so the setting decides about a change of it in the LMS.
    enroll_in_lms(system_with_each_api, learner, mode="verified")
    reconcile(["enrollment"], made_due=recheck(["enrollment"]))
    mode = "verified" if winner == "lms" else "audit"
    assert recorded_enrollments(learner) == {DEMO: (mode, True)}
    assert system_with_each_api.enrollments(learner.lms_account.username) == {DEMO: (mode, True)}


def test_enrollments_made_in_the_lms_are_not_recorded_if_adoption_is_turned_off(
    system_with_each_api, learner, settings
):
    settings.USHER_ADOPT_ENROLLMENTS = False
    enroll_in_lms(system_with_each_api, learner)
    receive_message("left-1", learner.lms_account.username, DEMO)
    pull_changes_a_minute_later()
    reconcile(["enrollment"], made_due=recheck(["enrollment"]))
    assert recorded_enrollments(learner) == {}
    (difference,) = drift(["enrollment"])
    assert "USHER_ADOPT_ENROLLMENTS" in difference.note


def test_messages_about_unknown_learners_or_malformed_keys_record_nothing(system):
    user = system.learner()
    ensure_account(user)  # not created yet, so this user has no enrollment in the LMS
    name = user.lms_account.username
    for number, key in enumerate((DEMO, "not-a-key", "course-v1:a+b+" + "c" * 300)):
        receive_message(f"nonsense-{number}", name, key)
    reconcile(["account"])
    receive_message("nonsense-9", name, "not-a-key")
    receive_message("nonsense-10", "nobody", DEMO)
    assert not Enrollment.objects.exists()
    assert not CourseRun.objects.exists()
