"""An outage is logged once when it begins, with advice, and once when it ends. A worker that waits
for an answer of the LMS counts as running."""

import logging
import threading
import time
from datetime import timedelta

import pytest
from django.db import connection

from tests.support import faults
from tests.support.faults import faulty_proxy
from usher.application import explain
from usher.application.accounts.services import ensure_account
from usher.application.explain import no_worker
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

STOPS = [AccessRefused("a"), NotTheLms("b"), CircuitOpen("c", retry_after=1.0), NotConfigured()]
DOWN = [
    TimedOut.after("/x", 60.0),
    Unreachable.not_connected("http://lms", OSError("Name or service not known")),
]
FAILS = [
    Unreachable.broken_off("/x", "reset"),
    ServerFailed("The LMS failed with 503.", status=503),
    BadAnswer("d"),
    Throttled("e", retry_after=1.0),
]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="usher.engine")
    return caplog


class Worker:
    """One process of a worker. state: shared by all processes of the worker."""

    def __init__(self, state=None):
        self.state = state or LocalState()
        self.outages = Outages()

    def tries(self, *errors):
        outcomes = [Outcome(error=error) for error in errors]
        self.outages.note("account", outcomes, self.state, Lms())


def warnings(log):
    return [record.getMessage() for record in log.records if record.name == "usher.engine"]


@pytest.mark.parametrize("error", [*STOPS, *DOWN, *FAILS], ids=lambda error: error.code)
def test_an_outage_is_logged_once_with_what_to_do_and_once_when_it_ends(log, error):
    worker = Worker()
    for _ in range(5):
        worker.tries(error, error)
    (line,) = warnings(log)
    assert line.startswith(f"account {'stopped' if error in STOPS else 'fails'}: {error.message}")
    assert any(text in line for text in ("usher doctor", "usher connect", "REQUESTS_A_SECOND"))
    worker.tries(None)
    worker.tries(None, None)
    assert [line[:21] for line in warnings(log)[1:]] == ["account resumed after"]


@pytest.mark.parametrize("error", [*STOPS, *DOWN], ids=lambda error: error.code)
def test_an_outage_is_logged_at_the_first_failure_if_no_other_request_can_succeed(log, error):
    Worker().tries(error)
    assert len(warnings(log)) == 1


@pytest.mark.parametrize("error", FAILS, ids=lambda error: error.code)
def test_a_request_that_fails_once_is_no_outage(log, error):
    worker = Worker()
    for _ in range(5):
        worker.tries(error)
        worker.tries(error, None)
    assert warnings(log) == []


def test_rows_that_wait_or_are_refused_or_have_a_bug_are_no_outage(log):
    worker = Worker()
    for _ in range(5):
        worker.tries(Refused("no such run"))
        worker.tries(JobFailed("KeyError"))
        waits = [Outcome(error=LmsError("Not sent.", code="unconfirmed"), is_waiting=True)]
        worker.outages.note("account", waits, worker.state, Lms())
    assert warnings(log) == []


def test_a_refusal_is_an_answer_and_ends_an_outage(log):
    worker = Worker()
    worker.tries(CircuitOpen("x", retry_after=1.0))
    worker.tries(Refused("no such run"))
    assert [line.split()[1] for line in warnings(log)] == ["stopped:", "resumed"]


def test_only_one_process_of_a_worker_logs_an_outage(log):
    one = Worker()
    others = [Worker(one.state) for _ in range(3)]
    for _ in range(3):
        for process in (one, *others):
            process.tries(AccessRefused("ended"))
    for process in (*others, one):
        process.tries(None)
    assert [line.split()[1] for line in warnings(log)] == ["stopped:", "resumed"]
    others[0].tries(AccessRefused("ended again"))
    assert len(warnings(log)) == 3


def test_reading_the_changes_in_the_lms_is_logged_once_in_an_outage(
    system_with_batch_api, settings, log
):
    with faulty_proxy(system_with_batch_api.lms.url) as proxy:
        settings.OPENEDX_API_BASE_URL = proxy.url

        def sweep():
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
    assert len(log.records) == 2, warnings(log)
    assert warnings(log)[0].startswith(
        "reading the changes in the LMS fails: The LMS failed with 500"
    )
    assert warnings(log)[1].startswith("reading the changes in the LMS resumed after")


def test_a_worker_that_waits_for_the_lms_is_alive(faulty, system, monkeypatch, eventually):
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
            Watermark.objects.filter(name=heartbeat.WORKER).update(asked_at="2020-01-01T00:00:00Z")
            eventually(lambda: no_worker() is None, 10)
        assert len(faulty.requests) <= 3
    finally:
        stop.set()
        faulty.mend()
        faulty.released.set()
        thread.join(60)
    assert not thread.is_alive()


def test_a_worker_that_hangs_is_not_alive_for_ever(transactional_db, monkeypatch, eventually):
    monkeypatch.setattr(heartbeat, "_SECONDS_BETWEEN_BEATS", 0.02)
    monkeypatch.setattr(heartbeat, "_MAX_WAIT_SECONDS", 0.5)
    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)
    with heartbeat.beating():
        eventually(lambda: no_worker() is None, 10)
        time.sleep(0.6)
        old = heartbeat.database_now() - timedelta(seconds=60)
        Watermark.objects.filter(name=heartbeat.WORKER).update(asked_at=old)
        time.sleep(0.2)
        assert no_worker() is not None


def test_a_worker_that_ends_in_order_says_so(db):
    stop = threading.Event()
    stop.set()
    heartbeat.beat()
    assert explain.no_worker() is None
    watch(stop=stop)
    assert explain.no_worker().text.startswith("The worker was stopped ")
    heartbeat._last_beat = 0.0
    heartbeat.beat()
    assert explain.no_worker() is None
