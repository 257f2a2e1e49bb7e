"""While the LMS fails three requests in ten, all operations reach the desired state in the end."""

import random
import secrets
import threading

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from tests.support import faults
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.lms_client import client
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.engine import services
from usher.engine.registry import all_kinds
from usher.engine.services import Patience, open_gates, reconcile, watch

DEMO = "course-v1:edX+DemoX+Demo_Course"
E2E = "course-v1:edX+E2E-101+course"
KINDS = ("account", "token", "enrollment")
FAULTS = tuple(fault for fault in faults.ALL if fault != faults.SLOW)


def hurry():
    """Ends all pauses and makes rows that wait for a retry due now. Their attempts still count."""
    state, health = client().http.state, client().http.health()
    for group in health.throttled:
        state.clear(f"group:{group}")
    for group in health.open_circuits:
        state.clear(f"circuit:{group}")
    open_gates(KINDS)
    for name in KINDS:
        rows = all_kinds()[name].model.objects.filter(work__due_at__isnull=False)
        rows.set_work(due_at=timezone.now())


def unsettled():
    return sum(all_kinds()[name].model.objects.unsettled().count() for name in KINDS)


@pytest.mark.each_database
def test_three_failures_in_ten(system, faulty):
    dice = random.Random(7)
    runs = [ensure_run(DEMO), ensure_run(E2E)]
    prefix = f"chaos{secrets.token_hex(4)}"
    users = [system.learner(prefix) for _ in range(15)]
    faulty.break_some(0.3, FAULTS, seed=7)
    for _ in range(3):
        for user in users:
            run = dice.choice(runs)
            row = enroll(user, run, dice.choice(["audit", "verified"]))
            if dice.random() < 0.3:
                unenroll(user, run)
            elif dice.random() < 0.3:
                change_mode(user, run, "audit" if row.mode == "verified" else "verified")
        reconcile(KINDS)
        hurry()
    for _ in range(40):
        if not unsettled():
            break
        reconcile(KINDS)
        hurry()
    assert unsettled() == 0, [
        (row, row.error_message) for row in Enrollment.objects.unsettled()
    ] + [(row, row.error_message) for row in LmsAccount.objects.unsettled()]
    for name in KINDS:
        assert all_kinds()[name].model.objects.refused().count() == 0
    for user in users:
        name = user.lms_account.username
        there = system.enrollments(name)
        for row in Enrollment.objects.filter(user=user).select_related("run"):
            mode, active = there.get(row.run.course_key, ("", False))
            assert active == row.is_active
            assert not active or mode == row.mode
    made = f"g().objects.filter(username__startswith={prefix!r}).count()"
    count = f"from django.contrib.auth import get_user_model as g; print({made})"
    assert int(system.lms.shell(count)) == len(users)


def test_patience_is_not_spent_several_times_on_an_lms_that_hangs(system, faulty, settings):
    settings.EDX_API_CLIENT_TIMEOUT = 0.5
    user = system.learner()
    ensure_account(user)
    faulty.break_all(faults.SLOW)
    summary = reconcile(["account"], user=user, patience=Patience(0.4))
    assert [failure.code for failure in summary.failures] == ["timed-out"]
    assert len(faulty.requests) == 1


@pytest.mark.each_database
def test_two_concurrent_engines(system):
    users = [system.learner("both") for _ in range(12)]
    for user in users:
        ensure_account(user)
        enroll(user, ensure_run(DEMO))
    errors, totals = [], []

    def engine():
        try:
            totals.append(reconcile(KINDS).changed)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=engine) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    reconcile(KINDS)
    assert unsettled() == 0
    assert sum(totals) >= len(users)
    assert LmsToken.objects.filter(expires_at__gt=timezone.now()).count() == len(users)


def test_watching_sends_rows_that_become_due_later(system, eventually):
    stop = threading.Event()

    def engine():
        try:
            watch(KINDS, stop=stop, every=0.05)
        finally:
            connection.close()

    thread = threading.Thread(target=engine)
    thread.start()
    try:
        user = system.learner("later")
        enroll(user, ensure_run(DEMO))
        eventually(lambda: not Enrollment.objects.filter(user=user).unsettled().exists(), 60)
    finally:
        stop.set()
        thread.join(60)
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}
    assert not thread.is_alive()


@pytest.mark.parametrize("first_question", ["beat", "sweep_prepare"])
def test_watching_outlives_a_database_that_does_not_answer(monkeypatch, first_question):
    stop, asked = threading.Event(), []

    def away():
        asked.append(len(asked))
        if len(asked) == 3:
            stop.set()
        raise OperationalError("the database system is starting up")

    monkeypatch.setattr(services, "_DATABASE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(services.heartbeat, "beat", lambda *args, **kwargs: None)
    monkeypatch.setattr(services.heartbeat, "record_stop", away)
    owner = services.heartbeat if first_question == "beat" else services
    monkeypatch.setattr(owner, first_question, away)
    watch(KINDS, stop=stop, every=0.0)
    assert asked == [0, 1, 2, 3], "the last for the record that the worker stopped"
