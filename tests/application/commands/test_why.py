"""``manage.py why`` explains the state of one learner."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone

from usher.application import conf
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.accounts.services import deactivate, reactivate
from usher.application.audit.models import AuditEvent
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.explain import explain
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run
from usher.application.states import State, in_state, state
from usher.engine import heartbeat
from usher.engine.services import reconcile
from usher.management.commands.why import Command

DEMO = "course-v1:edX+DemoX+Demo_Course"


def why(*arguments: str) -> str:
    """Runs ``why`` and returns its output. Text is joined into one line, JSON is not."""
    out = StringIO()
    call_command("why", *arguments, stdout=out)
    return out.getvalue() if "--json" in arguments else " ".join(out.getvalue().split())


def test_why_describes_a_learner_before_and_after_enrollment(system: Any) -> None:
    user, run = system.learner(), ensure_run(DEMO)
    assert "No LMS account was requested." in why(user.email)
    enroll(user, run)
    story = why(user.email)
    assert f"The LMS account {user.username} is not created yet." in story
    assert "Pending" in story
    assert "Due now: sent when a worker is free." in story
    enroll(user, run, reconcile_now=True)
    story = why(user.email, DEMO)
    assert f"Enrolled in {DEMO} as audit, seen in the LMS 1 s ago." in story
    assert "LMS token, valid for" in story
    assert "LMS account created" in story
    assert "Pending" not in story


@pytest.mark.parametrize("key", ["", " "])
def test_why_refuses_an_empty_course_key(system: Any, key: str) -> None:
    """As from a shell's variable that is not set. The story of all runs would hide the mistake."""
    with pytest.raises(CommandError, match="The course key is empty"):
        why(system.learner().email, key)


def test_why_shows_the_lms_s_message_of_a_refusal(system: Any) -> None:
    user = system.learner()
    row = enroll(user, ensure_run("course-v1:edX+Nowhere+1"), reconcile_now=True)
    story = json.loads(why(user.username, "--json"))["story"]
    line = next(sentence for sentence in story if sentence["topic"] == "enrollment")
    assert line["state"] == "Refused"
    assert line["cause"].startswith(f"[{row.error_code}]")
    assert "Sent again by itself when the course run changes" in line["next"]
    assert f"reconcile --recheck --user {user.username}" in why(user.username)


def test_why_says_that_a_refused_name_is_not_in_the_lms(django_user_model: Any, db: None) -> None:
    user = django_user_model.objects.create_user("ada", "ada@new.example")
    row = LmsProfile.objects.create(user=user, name="Ada", email="ada@new.example")
    LmsProfile.objects.filter(pk=row.pk).set_work(
        refused_at=timezone.now(), error_code="duplicate-email"
    )
    line = next(sentence for sentence in explain(user) if sentence.topic == "profile")
    text = "The name Ada and the e-mail address ada@new.example are not in the LMS yet."
    assert (line.text, line.state) == (text, "Refused")


def test_why_says_that_an_account_is_deactivated_in_the_lms(system: Any) -> None:
    user = system.learner()
    row = enroll(user, ensure_run(DEMO), reconcile_now=True)
    LmsAccount.objects.filter(user=user).update(observed_is_active=False)
    assert any("is deactivated in the LMS" in sentence.text for sentence in explain(row.user))


def test_a_learner_is_found_by_lms_username(system: Any) -> None:
    user = system.learner(username="ann@example.org")
    enroll(user, ensure_run(DEMO))
    assert "ann@example.org" in why(user.lms_account.username)


def test_why_rejects_an_unknown_user_or_run(system: Any) -> None:
    with pytest.raises(CommandError, match="No learner is called 'nobody'"):
        why("nobody")
    with pytest.raises(CommandError, match="No course run here has the key"):
        why(system.learner().email, "course-v1:a+b+c")


@pytest.mark.django_db
def test_the_filter_of_each_state_finds_the_records_in_that_state(django_user_model: Any) -> None:
    now = timezone.now()
    # Fields of accounts in all states. An account with an error can be settled, too.
    for number, values in enumerate(
        (
            {},
            {"observed_generation": 1},
            {"observed_generation": 1, "error_code": "x"},
            {"attempts": 2, "error_code": "x"},
            {"refused_at": now, "attempts": 3},
            {"refused_at": now, "observed_generation": 1},
            {"observed_generation": 1, "attempts": 1, "error_code": "x"},
            {"observed_generation": 1, "created_in_lms_at": now, "observed_is_active": False},
        )
    ):
        user = django_user_model.objects.create_user(
            username=f"n{number}", email=f"n{number}@e.org"
        )
        LmsAccount.objects.create(user=user, username=f"n{number}", reserved_at=now, **values)
    rows = LmsAccount.objects.all()
    for each_state in State:
        expected_rows = {row for row in rows if state(row) == each_state}
        assert expected_rows, each_state
        assert set(in_state(rows, each_state)) == expected_rows


def test_an_exact_match_is_preferred_to_matches_that_differ_in_case(system: Any) -> None:
    # Some user models allow two usernames or addresses that differ only in case.
    for name, email in (("ann@shop.example", "a@b.example"), ("ann2", "Ann@shop.example")):
        get_user_model().objects.create(username=name, email=email)
    assert "a@b.example" in why("ann@shop.example")
    assert "ann2" in why("Ann@shop.example")
    with pytest.raises(CommandError, match=r"ann@shop\.example, ann2"):
        why("ANN@shop.example")


@pytest.mark.parametrize(
    ("mistyped_key", "advice"),
    [
        ("course-v1:edX+DemoX+Demo_Cours", f"Did you mean {DEMO}?"),
        (DEMO.lower(), f"Did you mean {DEMO}?"),
        ("course-v1:other+course+run", "manage.py sync_courserun --run course-v1:other+course+run"),
        ("demo", "is not a course key"),
    ],
)
def test_an_error_about_a_mistyped_run_gives_advice(
    system: Any, mistyped_key: str, advice: str
) -> None:
    user = system.learner()
    ensure_run(DEMO)
    for command in (("why", user.email, mistyped_key), ("reconcile", "--run", mistyped_key)):
        with pytest.raises(CommandError) as refused:
            call_command(*command)
        assert advice in str(refused.value)
    assert why(user.email, f" {DEMO} "), "blanks around the key are ignored"


def test_why_prints_a_command_that_deletes_a_run_the_lms_never_had(system: Any) -> None:
    user, mistyped_run = system.learner(), ensure_run("course-v1:edX+DemoX+Demo_Corse")
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    assert "mistyped" not in why(user.email)
    enroll(user, mistyped_run, reconcile_now=True)
    story = why(user.email)
    assert "To delete the run here, with its 1 enrollment:" in story
    command = story.split("$ python manage.py shell -c ")[1].split('"')[1]
    # Runs the printed code, as the command ``shell -c`` would.
    exec(command)
    assert [row.run.course_key for row in Enrollment.objects.filter(user=user)] == [DEMO]
    assert "mistyped" not in why(user.email)


def test_why_does_not_call_a_run_mistyped_that_the_lms_had_before(system: Any) -> None:
    user, run = system.learner(), ensure_run("course-v1:edX+DemoX+Gone")
    enroll(user, run, reconcile_now=True)
    CourseRun.objects.filter(pk=run.pk).update(observed_at=timezone.now())
    assert "unknown-run" in why(user.email)
    assert "mistyped" not in why(user.email)


def lines_of_why(*arguments: str) -> list[str]:
    """Runs ``why`` and returns the lines as they are printed."""
    out = StringIO()
    call_command("why", *arguments, stdout=out)
    return out.getvalue().splitlines()


def test_the_learner_s_identity_is_on_one_line_without_markup(
    django_user_model: Any, db: None
) -> None:
    django_user_model.objects.create_user("ada", "ada@new.example", is_active=False)
    lines = lines_of_why("ada")
    assert [line for line in lines if "identity" in line] == ["  identity    ada, ada@new.example"]
    assert lines[1].strip() == "The user is deactivated in this application."


def test_why_says_that_no_worker_runs(django_user_model: Any, db: None) -> None:
    user = django_user_model.objects.create_user("ada", "ada@new.example")
    enroll(user, ensure_run(DEMO))
    story = why("ada")
    assert "worker No worker has ever run. Start `manage.py reconcile --watch`." in story
    # As if a worker had just reported that it runs. since: after how many seconds it is late.
    heartbeat._write(heartbeat.WORKER, since=str(heartbeat.LATE_WATCHING_SECONDS))
    assert "No worker" not in why("ada")


def test_why_says_to_start_the_worker_with_usher_dev_if_its_lms_is_used(
    django_user_model: Any, db: None, settings: Any, tmp_path: Path
) -> None:
    user = django_user_model.objects.create_user("ada", "ada@new.example")
    enroll(user, ensure_run(DEMO))
    settings.BASE_DIR = tmp_path
    (tmp_path / ".usher" / "dev").mkdir(parents=True)
    (tmp_path / ".usher" / "dev" / "env").write_text("OPENEDX_API_BASE_URL=http://127.0.0.1:18000")
    settings.OPENEDX_API_CLIENT_ID = ""  # no LMS is connected
    assert "No worker has ever run. Start `usher dev` again." in why("ada")
    for name in conf.REQUIRED:  # an LMS is connected: first that of usher dev, then another
        setattr(settings, name, "x")
    settings.OPENEDX_API_BASE_URL = "http://127.0.0.1:18000"
    assert "Start `usher dev` again." in why("ada")
    settings.OPENEDX_API_BASE_URL = "https://lms.example"
    assert "Start `manage.py reconcile --watch`." in why("ada")


def test_why_prints_no_warnings_about_settings(
    django_user_model: Any, db: None, settings: Any
) -> None:
    django_user_model.objects.create_user("ada", "ada@new.example")
    settings.OPENEDX_API_CLIENT_ID = ""  # ``manage.py check`` would warn
    command, err = Command(), StringIO()
    options = vars(command.create_parser("manage.py", "why").parse_args(["ada"]))
    command.execute(**options | {"stdout": StringIO(), "stderr": err})
    assert err.getvalue() == ""


def test_why_says_that_the_broker_does_not_answer(
    django_user_model: Any, db: None, settings: Any, monkeypatch: Any
) -> None:
    from celery import current_app

    url = "redis://127.0.0.1:9/0"  # no server listens there
    monkeypatch.setattr(current_app.conf, "broker_url", url)
    settings.CELERY_BROKER_URL = url
    user = django_user_model.objects.create_user("ada", "ada@new.example")
    enroll(user, ensure_run(DEMO))
    assert "worker Celery's broker does not answer, so workers get no messages." in why("ada")


def test_the_history_lists_changes_of_the_account_and_the_enrollments(
    system_with_each_api: Any, request: pytest.FixtureRequest
) -> None:
    user, run = system_with_each_api.learner(), ensure_run(DEMO)
    enroll(user, run, "audit", reconcile_now=True)
    change_mode(user, run, "verified", reconcile_now=True)
    unenroll(user, run, reconcile_now=True)
    enroll(user, ensure_run("course-v1:edX+Nowhere+1"), reconcile_now=True)
    deactivate(user)
    reconcile(["account"])
    reactivate(user)
    reconcile(["account"])
    # Each sentence begins with its age and a colon.
    texts = [
        sentence.text.split(": ", 1)[1] for sentence in explain(user) if sentence.topic == "history"
    ]
    texts = [text for text in texts if text != "LMS token obtained."]
    unenrolled = f"Unenrolled from {DEMO}."
    refused = "Enrollment in course-v1:edX+Nowhere+1 as audit refused [unknown-run]."
    api = request.node.callspec.params["system_with_each_api"]
    if api == "system_with_batch_api":
        deactivated = "LMS account deactivated."
    else:
        deactivated = "Deactivation of the LMS account refused [deactivation-by-hand]."
    changes = [
        "LMS account created.",
        f"Enrolled in {DEMO} as audit.",
        f"Mode in {DEMO} changed from audit to verified.",
        unenrolled,
        refused,
        deactivated,
    ]
    texts.reverse()  # the newest change is the first in the history
    assert texts[: len(changes)] == changes
    history_of_run = [
        sentence.text.split(": ", 1)[1]
        for sentence in explain(user, run)
        if sentence.topic == "history"
    ]
    assert unenrolled in history_of_run
    assert refused not in history_of_run


def test_a_deactivation_that_was_sent_with_the_profile_is_in_the_history(
    system_with_batch_api: Any,
) -> None:
    user = system_with_batch_api.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    user.is_active = False
    user.save()
    reconcile(["profile"])
    reconcile(["account"])
    history = [sentence.text for sentence in explain(user) if sentence.topic == "history"]
    assert history[0].endswith("LMS account deactivated."), "the newest change is the first"


def test_why_finds_a_deleted_learner_by_lms_username(system_with_batch_api: Any) -> None:
    user = system_with_batch_api.learner()
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    name = user.lms_account.username
    user.delete()
    with pytest.raises(CommandError, match=r"was deleted here.*not deactivated yet: Pending"):
        why(name)
    reconcile(["retirement"])
    with pytest.raises(CommandError, match=r"was deleted here.*no active account of that name"):
        why(name)
    assert AuditEvent.objects.filter(name="lms-account-retired", subject=name).exists()


def test_why_prints_the_command_that_compares_the_learner_with_the_lms(
    system: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``compare_learner`` is a command of the console. ``why`` names that command only if the
    console is installed."""
    user = system.learner()
    assert "compare_learner" not in why(user.username)  # there is no account to compare
    enroll(user, ensure_run(DEMO), reconcile_now=True)
    assert f"$ python manage.py compare_learner {user.username}" in why(user.username)
    with monkeypatch.context() as without_console:
        without_console.setattr(apps, "is_installed", lambda app: app != "usher.console")
        assert "compare_learner" not in why(user.username)


def test_why_says_what_to_do_about_an_enrollment_whose_run_is_missing_in_the_lms(
    system: Any,
) -> None:
    user, run = system.learner(), ensure_run(DEMO)
    enroll(user, run, reconcile_now=True)
    assert "✓ enrollment" in why(user.username)
    CourseRun.objects.filter(pk=run.pk).update(missing_since=timezone.now())
    story = why(user.username)
    assert "! enrollment" in story
    assert "Restore the course run in the LMS, or unenroll the learner here." in story
