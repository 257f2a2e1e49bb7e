"""An outage is logged once when it begins, with advice, and once when it ends. A worker that waits
for an answer of the LMS counts as running."""

import logging
import threading
import time

import pytest
from django.db import connection

from tests.support import faults
from tests.support.faults import faulty_proxy
from usher.application import explain
from usher.application.accounts.services import ensure_account
from usher.application.lms.changes import pull_changes
from usher.application.reconcilers import Lms
from usher.client.errors import (
    AccessRefused,
    BadAnswer,
    CircuitOpen,
    LmsError,
    NotConfigured,
    NotTheLms,
    Refused,
    ServerFailed,
    Throttled,
    TimedOut,
    Unreachable,
)
from usher.client.shared import LocalState
from usher.engine import heartbeat
from usher.engine.errors import JobFailed
from usher.engine.kinds import Outcome
from usher.engine.models import Watermark
from usher.engine.outages import Outages
from usher.engine.services import watch

#: Errors that stop a whole kind.
STOPPING_ERRORS = [
    AccessRefused("a"),
    NotTheLms("b"),
    CircuitOpen("c", retry_after=1.0),
    NotConfigured(),
]
#: Errors after which no other request can succeed, either.
UNREACHABLE_ERRORS = [
    TimedOut.after("/x", 60.0),
    Unreachable.not_connected("http://lms", OSError("Name or service not known")),
]
#: Errors that may concern one request. Only several without a success are an outage.
FAILURES_OF_ONE_REQUEST = [
    Unreachable.broken_off("/x", "reset"),
    ServerFailed("The LMS failed with 503.", status=503),
    BadAnswer("d"),
    Throttled("e", retry_after=1.0),
]


@pytest.fixture
def log(caplog):
    """The log lines of the engine."""
    caplog.set_level(logging.INFO, logger="usher.engine")
    return caplog


class Worker:
    """One process of a worker. state: the state that all processes of the worker share."""

    def __init__(self, state=None):
        self.state = state or LocalState()
        self.outages = Outages()

    def finish_pass(self, *errors):
        """Ends a pass with one outcome for each error. None: the row succeeded."""
        outcomes = [Outcome(error=error) for error in errors]
        self.outages.record_outcomes("account", outcomes, self.state, Lms())


def logged_messages(log):
    return [record.getMessage() for record in log.records if record.name == "usher.engine"]


@pytest.mark.parametrize(
    "error",
    [*STOPPING_ERRORS, *UNREACHABLE_ERRORS, *FAILURES_OF_ONE_REQUEST],
    ids=lambda error: error.code,
)
def test_an_outage_is_logged_once_with_advice_and_once_when_it_ends(log, error):
    worker = Worker()
    for _ in range(5):
        worker.finish_pass(error, error)
    (line,) = logged_messages(log)
    assert line.startswith(
        f"account {'stopped' if error in STOPPING_ERRORS else 'fails'}: {error.message}"
    )
    assert any(text in line for text in ("usher doctor", "usher connect", "REQUESTS_A_SECOND"))
    worker.finish_pass(None)
    worker.finish_pass(None, None)
    (_, line_about_end) = logged_messages(log)
    assert line_about_end.startswith("account resumed after")


@pytest.mark.parametrize(
    "error", [*STOPPING_ERRORS, *UNREACHABLE_ERRORS], ids=lambda error: error.code
)
def test_one_failure_is_logged_as_an_outage_if_no_request_can_succeed(log, error):
    Worker().finish_pass(error)
    assert len(logged_messages(log)) == 1


@pytest.mark.parametrize("error", FAILURES_OF_ONE_REQUEST, ids=lambda error: error.code)
def test_failures_between_successes_are_not_logged_as_an_outage(log, error):
    worker = Worker()
    for _ in range(5):
        worker.finish_pass(error)
        worker.finish_pass(error, None)
    assert logged_messages(log) == []


def test_refused_waiting_and_crashing_rows_are_not_logged_as_an_outage(log):
    worker = Worker()
    for _ in range(5):
        worker.finish_pass(Refused("no such run"))
        worker.finish_pass(JobFailed("KeyError"))
        waiting = Outcome(error=LmsError("Not sent.", code="unconfirmed"), is_waiting=True)
        worker.outages.record_outcomes("account", [waiting], worker.state, Lms())
    assert logged_messages(log) == []


def test_an_outage_ends_when_the_lms_refuses_a_row(log):
    worker = Worker()
    worker.finish_pass(CircuitOpen("x", retry_after=1.0))
    worker.finish_pass(Refused("no such run"))
    begin, end = logged_messages(log)
    assert begin.startswith("account stopped:")
    assert end.startswith("account resumed")


def test_only_one_process_of_a_worker_logs_an_outage(log):
    first = Worker()
    others = [Worker(first.state) for _ in range(3)]
    for _ in range(3):
        for process in (first, *others):
            process.finish_pass(AccessRefused("ended"))
    for process in (*others, first):
        process.finish_pass(None)
    begin, end = logged_messages(log)
    assert begin.startswith("account stopped:")
    assert end.startswith("account resumed")
    others[0].finish_pass(AccessRefused("ended again"))
    assert len(logged_messages(log)) == 3


def test_an_outage_of_the_lms_s_changes_is_logged_once(system_with_batch_api, settings, log):
    with faulty_proxy(system_with_batch_api.lms.url) as proxy:
        settings.OPENEDX_API_BASE_URL = proxy.url

        def sweep():
            """Asks for changes as a sweep does, as if the last sweep were long ago."""
            Watermark.objects.update(asked_at="2020-01-01T00:00:00Z")
            pull_changes()

        sweep()
        log.clear()
        proxy.break_all(faults.ERROR_500, path="/usher/api/v1/accounts/")
        for _ in range(4):
            sweep()
        proxy.mend()
        for _ in range(2):
            sweep()
    begin, end = log.messages
    assert begin.startswith("reading the changes in the LMS fails: The LMS failed with 500")
    assert end.startswith("reading the changes in the LMS resumed after")


def worker_counts_as_running():
    return explain.worker_problem() is None


def make_last_heartbeat_old():
    Watermark.objects.filter(name=heartbeat.WORKER).update(asked_at="2020-01-01T00:00:00Z")


def test_a_worker_that_waits_for_the_lms_counts_as_running(faulty, system, monkeypatch, eventually):
    monkeypatch.setattr(heartbeat, "_SECONDS_BETWEEN_BEATS", 0.05)
    monkeypatch.setattr(heartbeat, "LATE_WATCHING_SECONDS", 30)
    ensure_account(system.learner())
    faulty.break_all(faults.SLOW)
    stop = threading.Event()

    def work():
        try:
            watch(["account"], stop=stop, every=0.05)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        eventually(lambda: faulty.requests)
        for _ in range(3):  # the worker counts as running during the whole request
            make_last_heartbeat_old()
            eventually(worker_counts_as_running, seconds=10)
        assert len(faulty.requests) <= 3, "the heartbeats came from the waiting worker"
    finally:
        stop.set()
        faulty.mend()
        faulty.released.set()
        thread.join(60)
    assert not thread.is_alive()


def test_a_worker_that_hangs_counts_as_running_only_for_a_limited_time(
    transactional_db, monkeypatch, eventually
):
    """The worker hangs within one step of its work. A thread sends heartbeats for the worker, but
    at most for ``_MAX_WAIT_SECONDS``."""
    longest_step, between_beats = 0.5, 0.02
    monkeypatch.setattr(heartbeat, "_SECONDS_BETWEEN_BEATS", between_beats)
    monkeypatch.setattr(heartbeat, "_MAX_WAIT_SECONDS", longest_step)
    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)  # so that the first heartbeat is written
    with heartbeat.beating():
        eventually(worker_counts_as_running, seconds=10)
        time.sleep(longest_step + 0.1)
        make_last_heartbeat_old()
        time.sleep(10 * between_beats)  # another heartbeat would be written now
        assert not worker_counts_as_running()


def test_a_worker_that_was_stopped_is_reported_as_stopped(db):
    stop = threading.Event()
    stop.set()
    heartbeat.beat()
    assert worker_counts_as_running()
    watch(stop=stop)
    assert explain.worker_problem().text.startswith("The worker was stopped ")
    heartbeat._last_beat = 0.0  # so that beat() writes at once
    heartbeat.beat()
    assert worker_counts_as_running()
