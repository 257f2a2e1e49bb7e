"""A worker that is stopped waits for the answers to its requests, and keeps the rows of these
requests claimed."""

import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone

from tests.application.conftest import make_learner
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll
from usher.application.runs.services import ensure_run
from usher.engine import services, tasks
from usher.engine.claim import Scope, claim
from usher.engine.models import OutstandingMessage
from usher.engine.registry import kind
from usher.engine.stopping import SharedStop, StopAfter
from usher.engine.work import Work

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"
ENROLLMENT = "/api/enrollment/v1/enrollment"


class Held:
    """Holds back the LMS's answers about enrollments until the test releases them."""

    def __init__(self, proxy):
        self.arrived, self.let_go = threading.Event(), threading.Event()
        proxy.decide = self._decide

    def _decide(self, method, path):
        if method == "POST" and ENROLLMENT in path:
            self.arrived.set()
            assert self.let_go.wait(600)
        return ""


@pytest.fixture
def held_requests(faulty):
    held_requests = Held(faulty)
    yield held_requests
    held_requests.let_go.set()


def start_reconciling(stop, errors):
    def work():
        try:
            services.reconcile(["enrollment"], stop=stop)
        except Exception as error:  # noqa: BLE001 - the test asserts on it
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def an_enrollment(system):
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    return enroll(user, ensure_run(DEMO))


def test_a_sent_request_is_waited_for(system, held_requests):
    row, stop, errors = an_enrollment(system), threading.Event(), []
    worker = start_reconciling(stop, errors)
    assert held_requests.arrived.wait(90)
    stop.set()
    # The row must stay claimed. If another worker sent this newer change now, the first request
    # could overwrite the change.
    change_mode(row.user, row.run, "verified")
    time.sleep(0.6)
    assert claim(kind("enrollment"), Scope(), 10, 60)[1] == []
    assert worker.is_alive()
    held_requests.let_go.set()
    worker.join(120)
    assert errors == []
    assert services.reconcile(["enrollment"]).failed == 0
    row.refresh_from_db()
    assert (row.is_settled, row.observed_mode) == (True, "verified")
    assert system.enrollments(row.user.lms_account.username) == {DEMO: ("verified", True)}


def test_a_row_whose_answer_is_late_keeps_its_lease(system, held_requests, settings):
    settings.USHER_STOP_SECONDS = 0.5
    row, stop, errors = an_enrollment(system), threading.Event(), []
    worker = start_reconciling(stop, errors)
    assert held_requests.arrived.wait(90)
    stop.set()
    worker.join(120)
    assert not worker.is_alive()  # although the LMS has not answered
    assert errors == []
    row.refresh_from_db()
    assert row.lease_until > timezone.now() + timedelta(seconds=50)
    assert claim(kind("enrollment"), Scope(), 10, 60)[1] == []


def test_rows_that_no_thread_has_started_are_released_immediately(system, held_requests, settings):
    settings.USHER_CONCURRENCY = 1
    run = ensure_run(DEMO)
    users = [system.learner() for _ in range(5)]
    for user in users:
        ensure_account(user, reconcile_now=True)
        enroll(user, run)
    stop, errors = threading.Event(), []
    worker = start_reconciling(stop, errors)
    assert held_requests.arrived.wait(90)
    stop.set()
    deadline = time.monotonic() + 90
    while Work.objects.filter(kind="enrollment").exclude(lease_owner="").count() > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    held_requests.let_go.set()
    worker.join(120)
    assert errors == []
    assert Enrollment.objects.due().count() == 4


def test_an_interrupted_run_releases_no_row_that_was_sent(system, held_requests, monkeypatch):
    row, errors = an_enrollment(system), []

    def interrupted(*_):
        assert held_requests.arrived.wait(90)
        raise KeyboardInterrupt

    monkeypatch.setattr("usher.engine.runner.Runner._is_flush_due", interrupted)
    with pytest.raises(KeyboardInterrupt):
        services.reconcile(["enrollment"])
    row.refresh_from_db()
    assert row.lease_owner
    assert errors == []


def test_a_stop_is_seen_by_forked_processes():
    script = (
        "import os, time\n"
        "from usher.engine.stopping import SharedStop\n"
        "stop = SharedStop()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    stop.wait(90)\n"
        "    os._exit(7 if stop.is_set() else 1)\n"
        "stop.set()\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=180)
    assert result.stdout.strip() == b"7", result.stderr


def test_a_stop_after_some_seconds():
    stop = SharedStop()
    ends = StopAfter(stop, 0.2)
    assert not ends.is_set()
    began = time.monotonic()
    ends.wait(90)
    assert ends.is_set()
    assert 0.1 < time.monotonic() - began < 60
    stop.set()
    assert StopAfter(stop, 60).is_set()


# Celery's messages


@pytest.fixture
def sent_messages(monkeypatch, transactional_db):
    """The messages that a sweep sends."""
    messages = []
    monkeypatch.setattr(tasks.work_share, "delay", lambda *args: messages.append(args))
    monkeypatch.setattr(tasks, "sweep_prepare", lambda: None)
    monkeypatch.setattr(tasks, "ROWS_A_SHARE", 10)
    return messages


def many_accounts(count):
    for _ in range(count):
        ensure_account(make_learner())


def test_sweeps_add_nothing_while_messages_are_outstanding(sent_messages):
    many_accounts(25)
    for _ in range(5):
        tasks.sweep()
    assert sent_messages == [("account", n) for n in range(3)]


def test_a_message_that_was_processed_or_lost_may_be_sent_again(sent_messages, monkeypatch):
    many_accounts(5)
    monkeypatch.setattr(tasks, "reconcile", lambda kinds, **options: None)
    tasks.sweep()
    tasks.work_share("account", 0)
    assert len(sent_messages) == 2, "there is more to do, so it sends itself again"
    tasks.sweep()
    assert len(sent_messages) == 2
    OutstandingMessage.objects.update(until=timezone.now() - timedelta(seconds=1))
    tasks.sweep()
    assert len(sent_messages) == 3


def test_a_message_is_processed_for_a_limited_time(sent_messages, monkeypatch):
    stops = []
    monkeypatch.setattr(tasks, "SHARE_SECONDS", 0.05)
    monkeypatch.setattr(tasks, "reconcile", lambda *_, stop, **__: stops.append(stop))
    tasks.work(1)
    tasks.work_share("account", 0)
    time.sleep(0.1)
    assert [stop.is_set() for stop in stops] == [True, True]


def test_a_learner_does_not_wait_behind_a_backlog(sent_messages, monkeypatch):
    many_accounts(3)
    user = make_learner()
    ensure_account(user)
    scopes = []
    monkeypatch.setattr(tasks, "reconcile", lambda **given: scopes.append(given["user"]))
    tasks.work(user.pk)
    assert scopes == [user.pk]
    assert sent_messages == []
    scope = services.scope_of(user.pk)
    _, rows = claim(kind("account"), scope, 10, 60)
    assert [row.user_id for row in rows] == [user.pk]


def test_reconcile_ends_with_exit_code_130_after_a_signal(tmp_path):
    """The command runs in another process, which receives a real signal."""
    script = tmp_path / "told.py"
    script.write_text(
        "import os, signal, threading\n"
        "import django; django.setup()\n"
        "from django.core.management import CommandError, call_command\n"
        "from usher.engine import services\n"
        "def reconcile(*_, stop, **__):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert stop.wait(90)\n"
        "    return services.Summary()\n"
        "services.reconcile = reconcile\n"
        "services.open_gates = services.sweep_prepare = lambda *_: None\n"
        "try:\n"
        "    call_command('reconcile')\n"
        "except CommandError as error:\n"
        "    print(error, error.returncode)\n"
        "assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL\n"
    )
    campus = Path(__file__).resolve().parents[3] / "campus"
    result = subprocess.run(
        [sys.executable, str(script)],
        env={
            "DJANGO_SETTINGS_MODULE": "campus.settings",
            "PYTHONPATH": str(campus),
            "CAMPUS_HOME": str(tmp_path),
            "PATH": "",
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "nothing is lost" in result.stdout, result.stderr
    assert result.stdout.strip().endswith("130")
    assert signal.SIGTERM
