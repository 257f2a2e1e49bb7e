"""A worker that is stopped waits for the answers to its requests, and keeps the rows of these
requests claimed. A worker whose leases have ended sends nothing more."""

import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from tests.application.conftest import LONGEST_WAIT, make_learner
from tests.application.engine.claiming import claim_rows
from tests.support.faults import ERROR_500
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.runs.services import ensure_run
from usher.contract.paths import LmsPath
from usher.engine import services, tasks
from usher.engine.models import OutstandingMessage
from usher.engine.runner import Runner
from usher.engine.stopping import SharedStop, StopAfter
from usher.engine.work import Work

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"
ENROLLMENT = "/api/enrollment/v1/enrollment"


class HeldAnswers:
    """Holds back the LMS's answers about enrollments until the test releases them."""

    def __init__(self, proxy):
        self.arrived, self.may_answer = threading.Event(), threading.Event()
        proxy.decide = self._decide

    def _decide(self, method, path):
        """The proxy's fault for each request: always '', which passes the request on to the LMS. A
        change of an enrollment waits here first."""
        if method == "POST" and ENROLLMENT in path:
            self.arrived.set()
            assert self.may_answer.wait(600)  # longer than any test waits
        return ""


@pytest.fixture
def held_answers(faulty):
    """See ``HeldAnswers``. After the test, the answers are released, so that threads can end."""
    held_answers = HeldAnswers(faulty)
    yield held_answers
    held_answers.may_answer.set()


def start_reconciling(stop, errors):
    """Starts a worker in a thread, and returns the thread. errors: a list that gets the exception
    that the worker raises, if any."""

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


def make_enrollment(system):
    """A due enrollment of a learner with an LMS account."""
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    return enroll(user, ensure_run(DEMO))


def test_a_stopped_worker_waits_for_the_answer_and_keeps_the_row_claimed(system, held_answers):
    row, stop, errors = make_enrollment(system), threading.Event(), []
    worker = start_reconciling(stop, errors)
    assert held_answers.arrived.wait(LONGEST_WAIT)
    stop.set()
    # The row must stay claimed: if another worker sent this change now, the first request could
    # overwrite it in the LMS.
    change_mode(row.user, row.run, "verified")
    time.sleep(0.6)  # enough for the worker to notice the stop
    assert claim_rows("enrollment", limit=10) == []
    assert worker.is_alive()
    held_answers.may_answer.set()
    worker.join(120)
    assert errors == []
    assert services.reconcile(["enrollment"]).failed == 0
    row.refresh_from_db()
    assert (row.is_settled, row.observed_mode) == (True, "verified")
    assert system.enrollments(row.user.lms_account.username) == {DEMO: ("verified", True)}


def test_the_lease_remains_if_a_worker_stops_before_the_answer(system, held_answers, settings):
    settings.USHER_STOP_SECONDS = 0.5
    row, stop, errors = make_enrollment(system), threading.Event(), []
    worker = start_reconciling(stop, errors)
    assert held_answers.arrived.wait(LONGEST_WAIT)
    stop.set()
    worker.join(120)
    assert not worker.is_alive()  # although the LMS has not answered
    assert errors == []
    row.refresh_from_db()
    # Of the lease's 60 seconds, most are left.
    assert row.lease_until > timezone.now() + timedelta(seconds=50)
    assert claim_rows("enrollment", limit=10) == []


def test_a_stopped_worker_immediately_releases_rows_that_it_has_not_sent(
    system, held_answers, settings
):
    settings.USHER_CONCURRENCY = 1  # so that the worker sends one of the five enrollments
    run = ensure_run(DEMO)
    users = [system.learner() for _ in range(5)]
    for user in users:
        ensure_account(user, reconcile_now=True)
        enroll(user, run)
    stop, errors = threading.Event(), []
    worker = start_reconciling(stop, errors)
    assert held_answers.arrived.wait(LONGEST_WAIT)
    stop.set()
    # Only the enrollment that was sent stays claimed.
    deadline = time.monotonic() + 90
    while Work.objects.filter(kind="enrollment").exclude(lease_owner="").count() > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    held_answers.may_answer.set()
    worker.join(120)
    assert errors == []
    assert Enrollment.objects.due().count() == 4


def test_an_interrupted_worker_keeps_the_rows_that_it_has_sent(system, held_answers, monkeypatch):
    row = make_enrollment(system)

    def interrupt(*_):
        """Presses Ctrl-C as soon as the request has reached the LMS."""
        assert held_answers.arrived.wait(LONGEST_WAIT)
        raise KeyboardInterrupt

    monkeypatch.setattr("usher.engine.runner.Runner._is_flush_due", interrupt)
    with pytest.raises(KeyboardInterrupt):
        services.reconcile(["enrollment"])
    row.refresh_from_db()
    assert row.lease_owner


def test_forked_processes_receive_a_shared_stop():
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


def test_stop_after_is_set_after_its_seconds_or_by_the_shared_stop():
    shared_stop = SharedStop()
    stop = StopAfter(shared_stop, seconds=0.2)
    assert not stop.is_set()
    began = time.monotonic()
    stop.wait(LONGEST_WAIT)
    assert stop.is_set()
    assert 0.1 < time.monotonic() - began < 60
    shared_stop.set()
    assert StopAfter(shared_stop, seconds=60).is_set()


# Leases that have ended


class HeldFailure:
    """Holds back the first change of an enrollment until the test releases it. That request then
    fails with status 500 and does not reach the LMS; all later requests do."""

    def __init__(self, proxy):
        self.arrived, self.may_fail = threading.Event(), threading.Event()
        proxy.decide = self._decide

    def _decide(self, method, path):
        """The proxy's fault for each request."""
        is_change = method == "POST" and (ENROLLMENT in path or LmsPath.USHER_ENROLLMENTS in path)
        if not is_change or self.arrived.is_set():
            return ""
        self.arrived.set()
        assert self.may_fail.wait(600)  # longer than any test waits
        return ERROR_500


@pytest.fixture
def held_failure(faulty_with_each_api):
    """See ``HeldFailure``. After the test, the request is released, so that its thread can end."""
    held_failure = HeldFailure(faulty_with_each_api)
    yield held_failure
    held_failure.may_fail.set()


def is_any_request_in_progress():
    return any(thread.name.startswith("usher-lms") for thread in threading.enumerate())


def test_a_request_is_not_repeated_after_its_lease_has_ended(
    system_with_each_api, held_failure, settings, monkeypatch, eventually
):
    """The first worker's request fails after a second worker has sent the next change. A repeated
    request would undo that change in the LMS."""
    system, settings.USHER_LEASE_SECONDS = system_with_each_api, 1.0
    row, errors = make_enrollment(system), []
    username = row.user.lms_account.username

    def lose_database(*_):
        """Ends the pass while its request is in progress, so that it doesn't renew the lease."""
        assert held_failure.arrived.wait(LONGEST_WAIT)
        raise OperationalError("the database restarts")

    with monkeypatch.context() as patch:
        patch.setattr("usher.engine.runner.Runner._collect", lose_database)
        worker = start_reconciling(threading.Event(), errors)
        worker.join(120)
    assert [type(error) for error in errors] == [OperationalError]

    unenroll(row.user, row.run)
    # The second worker claims the row after the lease of the first one.
    eventually(lambda: services.reconcile(["enrollment"]).changed)
    row.refresh_from_db()
    assert row.is_settled

    held_failure.may_fail.set()
    eventually(lambda: not is_any_request_in_progress())
    assert system.enrollments(username) == {DEMO: ("audit", False)}


class Suspension:
    """Replaces the module ``time`` for the runner: ``monotonic`` does not count the time for which
    the first worker's machine sleeps. The second worker, in the main thread, is not asleep."""

    def __init__(self):
        self.began_at, self.seconds = 0.0, 0.0

    def monotonic(self):
        is_first_worker = threading.current_thread() is not threading.main_thread()
        return time.monotonic() - (self.seconds if is_first_worker else 0.0)

    def begin(self):
        self.began_at = time.monotonic()

    def end(self):
        self.seconds = time.monotonic() - self.began_at


@pytest.mark.parametrize("machine_sleeps", [False, True], ids=["process", "machine"])
def test_a_suspended_worker_sends_no_row_that_another_worker_has_claimed(
    system, faulty, settings, monkeypatch, eventually, machine_sleeps
):
    """The suspended worker has sent one row, and a second row waits for a thread. When it resumes,
    it first renews its leases."""
    suspension = Suspension()
    if machine_sleeps:
        monkeypatch.setattr("usher.engine.runner.time", suspension)
    settings.USHER_LEASE_SECONDS, settings.USHER_CONCURRENCY = 1.0, 1
    held_failure, errors = HeldFailure(faulty), []
    make_enrollment(system)
    second_row = make_enrollment(system)
    resumed, has_renewed = threading.Event(), threading.Event()

    def renew_after_suspension(runner):
        """Suspends the first worker's database thread; its only other thread waits for the LMS. The
        second worker runs in the main thread."""
        is_first_worker = threading.current_thread() is not threading.main_thread()
        if is_first_worker:
            assert resumed.wait(LONGEST_WAIT)
        renew_leases(runner)
        if is_first_worker:
            has_renewed.set()

    renew_leases = Runner._renew_leases
    monkeypatch.setattr(Runner, "_renew_leases", renew_after_suspension)
    worker = start_reconciling(threading.Event(), errors)
    assert held_failure.arrived.wait(LONGEST_WAIT)
    suspension.begin()

    unenroll(second_row.user, second_row.run)
    eventually(lambda: services.reconcile(["enrollment"], user=second_row.user).changed)

    suspension.end()
    resumed.set()
    assert has_renewed.wait(LONGEST_WAIT)
    requests_before = len(faulty.requests)
    held_failure.may_fail.set()
    worker.join(120)
    assert errors == []
    changes = [path for method, path in faulty.requests[requests_before:] if method == "POST"]
    assert changes == [ENROLLMENT], "only the first row's request is repeated"


# Celery's messages


@pytest.fixture
def sent_messages(monkeypatch, transactional_db):
    """The messages that sweeps and tasks send: (kind, number of the share). A share has ten rows.
    No message reaches a worker, and a sweep does nothing but send messages."""
    messages = []
    monkeypatch.setattr(tasks.work_share, "delay", lambda *args: messages.append(args))
    monkeypatch.setattr(tasks, "prepare_sweep", lambda: None)
    monkeypatch.setattr(tasks, "ROWS_A_SHARE", 10)
    return messages


def make_accounts(count):
    for _ in range(count):
        ensure_account(make_learner())


def test_sweeps_send_no_second_message_for_an_outstanding_share(sent_messages):
    make_accounts(25)
    for _ in range(5):
        tasks.sweep()
    assert sent_messages == [("account", share) for share in range(3)], "25 rows are three shares"


def test_a_message_is_sent_again_after_it_was_processed_or_lost(sent_messages, monkeypatch):
    make_accounts(5)
    monkeypatch.setattr(tasks, "reconcile", lambda kinds, **options: None)
    tasks.sweep()
    tasks.work_share("account", number=0)
    assert len(sent_messages) == 2, "rows are still due, so the task sends another message"
    tasks.sweep()
    assert len(sent_messages) == 2  # the second message is outstanding
    # After this time, the message counts as lost.
    OutstandingMessage.objects.update(until=timezone.now() - timedelta(seconds=1))
    tasks.sweep()
    assert len(sent_messages) == 3


def test_a_message_is_processed_for_a_limited_time(sent_messages, monkeypatch):
    stops = []
    monkeypatch.setattr(tasks, "SHARE_SECONDS", 0.05)
    monkeypatch.setattr(tasks, "reconcile", lambda *_, stop, **__: stops.append(stop))
    tasks.work(user_id=1)
    tasks.work_share("account", number=0)
    time.sleep(0.1)  # longer than SHARE_SECONDS
    assert [stop.is_set() for stop in stops] == [True, True]


def test_the_task_for_one_learner_reconciles_only_this_learner(sent_messages, monkeypatch):
    make_accounts(3)
    user = make_learner()
    ensure_account(user)
    user_ids = []
    monkeypatch.setattr(tasks, "reconcile", lambda **options: user_ids.append(options["user"]))
    tasks.work(user.pk)
    assert user_ids == [user.pk]
    assert sent_messages == []
    rows = claim_rows("account", scope=services.scope_of(user.pk), limit=10)
    assert [row.user_id for row in rows] == [user.pk]


def test_reconcile_ends_with_exit_code_130_after_a_signal(tmp_path):
    """The command runs in another process, which receives a real signal. After it, any second
    signal has its usual effect."""
    script = tmp_path / "signal_itself.py"
    script.write_text(
        "import os, signal, threading\n"
        "import django; django.setup()\n"
        "from django.core.management import CommandError, call_command\n"
        "from usher.engine import services\n"
        "handler_before = signal.getsignal(signal.SIGINT)\n"  # a process may ignore SIGINT
        "def reconcile(*_, stop, **__):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert stop.wait(90)\n"
        "    assert signal.getsignal(signal.SIGINT) == handler_before\n"
        "    return services.Summary()\n"
        "services.reconcile = reconcile\n"
        "services.open_gates = services.prepare_sweep = lambda *_: None\n"
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
