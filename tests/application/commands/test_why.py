"""``manage.py why`` explains the state of one learner."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.enrollments.services import enroll
from usher.application.explain import explain
from usher.application.runs.services import ensure_run
from usher.application.states import State, in_state, state

DEMO = "course-v1:edX+DemoX+Demo_Course"


def why(*arguments: str) -> str:
    out = StringIO()
    call_command("why", *arguments, stdout=out)
    return out.getvalue() if "--json" in arguments else " ".join(out.getvalue().split())


def test_the_story_from_nothing_to_enrolled(joined: Any) -> None:
    user, run = joined.learner(), ensure_run(DEMO)
    assert "No LMS account was requested." in why(user.email)
    enroll(user, run)
    told = why(user.email)
    assert f"The LMS account {user.username} is not created yet." in told
    assert "Pending" in told
    assert "Sent as soon as a worker is free." in told
    enroll(user, run, reconcile_now=True)
    told = why(user.email, DEMO)
    assert f"Enrolled in {DEMO} as audit, seen in the LMS 1 s ago." in told
    assert "LMS token, valid for" in told
    assert "LMS account created" in told
    assert "Pending" not in told


def test_why_shows_the_lms_s_message_of_a_refusal(joined: Any) -> None:
    user = joined.learner()
    row = enroll(user, ensure_run("course-v1:edX+Nowhere+1"), reconcile_now=True)
    told = json.loads(why(user.username, "--json"))["story"]
    line = next(one for one in told if one["topic"] == "enrollment")
    assert line["state"] == "Refused"
    assert line["cause"].startswith(f"{row.error_message} [{row.error_code}]")
    assert "Sent again by itself when the course run changes" in line["next"]


def test_a_refused_name_is_not_said_to_be_sent(django_user_model: Any, db: None) -> None:
    user = django_user_model.objects.create_user("ada", "ada@new.example")
    row = LmsProfile.objects.create(user=user, name="Ada", email="ada@new.example")
    LmsProfile.objects.filter(pk=row.pk).set_work(
        parked_at=timezone.now(), error_code="duplicate-email"
    )
    line = next(one for one in explain(user) if one.topic == "profile")
    text = "The name Ada and the e-mail address ada@new.example are not in the LMS yet."
    assert (line.text, line.state) == (text, "Refused")


def test_an_account_deactivated_in_the_lms_is_named(joined: Any) -> None:
    user = joined.learner()
    row = enroll(user, ensure_run(DEMO), reconcile_now=True)
    LmsAccount.objects.filter(user=user).update(observed_is_active=False)
    assert any("is deactivated in the LMS" in one.text for one in explain(row.user))


def test_a_learner_is_found_by_lms_username(joined: Any) -> None:
    user = joined.learner(username="ann@example.org")
    enroll(user, ensure_run(DEMO))
    assert "ann@example.org" in why(user.lms_account.username)


def test_an_unknown_user_or_run_is_named(joined: Any) -> None:
    with pytest.raises(CommandError, match="No learner is called 'nobody'"):
        why("nobody")
    with pytest.raises(CommandError, match="is not known here"):
        why(joined.learner().email, "course-v1:a+b+c")


@pytest.mark.django_db
def test_filters_and_names_of_states_agree(django_user_model: Any) -> None:
    now = timezone.now()
    for number, values in enumerate(
        (
            {},
            {"observed_generation": 1},
            {"observed_generation": 1, "error_code": "x"},
            {"attempts": 2, "error_code": "x"},
            {"parked_at": now, "attempts": 3},
            {"parked_at": now, "observed_generation": 1},
            {"observed_generation": 1, "attempts": 1, "error_code": "x"},
        )
    ):
        user = django_user_model.objects.create_user(
            username=f"n{number}", email=f"n{number}@e.org"
        )
        LmsAccount.objects.create(user=user, username=f"n{number}", reserved_at=now, **values)
    rows = LmsAccount.objects.all()
    for wanted in State:
        assert set(in_state(rows, wanted)) == {row for row in rows if state(row) == wanted}
