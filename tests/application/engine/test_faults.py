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
#: Any number; the same number gives the same changes and faults in each execution.
SEED = 7
FAULTS = tuple(fault for fault in faults.ALL if fault != faults.SLOW)


def end_pauses():
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


def count_unsettled():
    return sum(all_kinds()[name].model.objects.unsettled().count() for name in KINDS)


@pytest.mark.each_database
def test_all_records_are_settled_while_three_requests_in_ten_fail(system, faulty):
    random_generator = random.Random(SEED)
    runs = [ensure_run(DEMO), ensure_run(E2E)]
    prefix = f"chaos{secrets.token_hex(4)}"
    users = [system.learner(prefix) for _ in range(15)]
    faulty.break_some(share=0.3, faults=FAULTS, seed=SEED)
    # The desired states change three times while requests fail.
    for _ in range(3):
        for user in users:
            run = random_generator.choice(runs)
            row = enroll(user, run, random_generator.choice(["audit", "verified"]))
            other_mode = "audit" if row.mode == "verified" else "verified"
            if random_generator.random() < 0.3:
                unenroll(user, run)
            elif random_generator.random() < 0.3:
                change_mode(user, run, other_mode)
        reconcile(KINDS)
        end_pauses()
    # From here on, the desired states stay, and requests still fail.
    for _ in range(40):  # far more passes than needed
        if not count_unsettled():
            break
        reconcile(KINDS)
        end_pauses()
    unsettled = [*Enrollment.objects.unsettled(), *LmsAccount.objects.unsettled()]
    assert count_unsettled() == 0, [(row, row.error_message) for row in unsettled]
    for name in KINDS:
        assert all_kinds()[name].model.objects.refused().count() == 0
    # The LMS has the desired state of each enrollment.
    for user in users:
        name = user.lms_account.username
        enrollments_in_lms = system.enrollments(name)
        for row in Enrollment.objects.filter(user=user).select_related("run"):
            mode, active = enrollments_in_lms.get(row.run.course_key, ("", False))
            assert active == row.is_active
            assert not active or mode == row.mode
    # No learner got a second account.
    number_of_accounts = system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"print(g().objects.filter(username__startswith={prefix!r}).count())"
    )
    assert int(number_of_accounts) == len(users)


def test_reconcile_sends_no_second_request_after_a_timeout_that_used_up_its_patience(
    system, faulty, settings
):
    settings.EDX_API_CLIENT_TIMEOUT = 0.5
    user = system.learner()
    ensure_account(user)
    faulty.break_all(faults.SLOW)
    summary = reconcile(["account"], user=user, patience=Patience(seconds=0.4))
    assert [failure.code for failure in summary.failures] == ["timed-out"]
    assert len(faulty.requests) == 1


@pytest.mark.each_database
def test_concurrent_workers_settle_all_records(system):
    users = [system.learner("both") for _ in range(12)]
    for user in users:
        ensure_account(user)
        enroll(user, ensure_run(DEMO))
    errors, totals = [], []

    def run_worker():
        try:
            totals.append(reconcile(KINDS).changed)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run_worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not errors
    reconcile(KINDS)
    assert count_unsettled() == 0
    assert sum(totals) >= len(users)
    assert LmsToken.objects.filter(expires_at__gt=timezone.now()).count() == len(users)


def test_watch_sends_rows_that_become_due_later(system, eventually):
    stop = threading.Event()

    def run_worker():
        try:
            watch(KINDS, stop=stop, every=0.05)
        finally:
            connection.close()

    thread = threading.Thread(target=run_worker)
    thread.start()
    try:
        user = system.learner("later")
        enroll(user, ensure_run(DEMO))
        unsettled = Enrollment.objects.filter(user=user).unsettled()
        eventually(lambda: not unsettled.exists(), seconds=60)
    finally:
        stop.set()
        thread.join(60)
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}
    assert not thread.is_alive()


@pytest.mark.parametrize("failing_function", ["beat", "prepare_sweep"])
def test_watch_continues_while_the_database_does_not_answer(monkeypatch, failing_function):
    stop, calls = threading.Event(), []

    def fail():
        calls.append(len(calls))
        if len(calls) == 3:
            stop.set()
        raise OperationalError("the database system is starting up")

    monkeypatch.setattr(services, "_DATABASE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(services.heartbeat, "beat", lambda *args, **kwargs: None)
    monkeypatch.setattr(services.heartbeat, "record_stop", fail)
    owner = services.heartbeat if failing_function == "beat" else services
    monkeypatch.setattr(owner, failing_function, fail)
    watch(KINDS, stop=stop, every=0.0)
    assert calls == [0, 1, 2, 3], "the last call is record_stop"
