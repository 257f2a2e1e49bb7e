"""Sends requests to the LMS and reads the answers. All requests of the client go through here.

The client is synchronous on purpose: many threads, each with its own connection, need less
processor time for a request than an asynchronous client.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from email.message import Message
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from usher.client.addresses import base, origin
from usher.client.circuit import Circuit
from usher.client.connection import Transport, open_connection
from usher.client.errors import (
    BadAnswer,
    LmsError,
    NotConfigured,
    NotTheLms,
    ServerFailed,
    Throttled,
    TimedOut,
    Unreachable,
)
from usher.client.health import Health, HealthRecorder
from usher.client.outgoing import Outgoing, is_header
from usher.client.shared import SharedState
from usher.client.tracing import span
from usher.client.urgency import check_before_sending, is_urgent, seconds_left

#: Seconds to pause after 429 if the answer doesn't say how many.
_DEFAULT_WAIT_SECONDS = 60.0
_MIN_WAIT_SECONDS = 1.0
_MAX_WAIT_SECONDS = 3600.0
_WHOLE_SECONDS = re.compile(r"[0-9]{1,9}")
_SECONDS_IN_BODY = re.compile(rb"available in (\d{1,9}) second")


@dataclass(frozen=True)
class Answer:
    """An answer of the LMS. body: all of it, decompressed. request_id: the ``X-Request-ID`` of the
    request."""

    status: int
    headers: Message = field(repr=False)
    body: bytes = field(repr=False)
    request_id: str = ""

    def json(self) -> Any:
        """The body as JSON. Raises NotTheLms if it is text or HTML, BadAnswer if it isn't valid
        JSON."""
        if self.headers.get("content-type", "").lower().startswith("text/"):
            raise NotTheLms(
                f"The answer ({self.status}, a page) is not the LMS's API's. It may come from a "
                "proxy, a sign-in page or another application. Check OPENEDX_API_BASE_URL and the "
                "proxy.",
                status=self.status,
            )
        try:
            return read_json(self.body)
        except ValueError as error:
            raise BadAnswer(
                f"The LMS answered {self.status} with something that is not JSON.",
                status=self.status,
            ) from error

    def json_or_none(self) -> Any:
        """The body as JSON; None if it isn't valid JSON."""
        try:
            return read_json(self.body)
        except ValueError:
            return None

    @property
    def location(self) -> str:
        """The target if the answer is a redirect; '' otherwise."""
        return self.headers.get("location", "")

    def cookies(self) -> dict[str, str]:
        """Name → value of the cookies that this answer sets; '' for those that it deletes. Cookies
        that can't be sent back are left out."""
        cookies: dict[str, str] = {}
        for line in self.headers.get_all("set-cookie", []):
            name, _, value = line.split(";", 1)[0].partition("=")
            name, value = name.strip(), value.strip().strip('"')
            if is_header(name) and is_header(value):
                cookies[name] = value
        return cookies


@dataclass
class Exchange:
    """One request and its answer, for metrics and traces. The path is left out, because it may name
    a learner. status: HTTP status; 0 without an answer. error: code of the reason why there was no
    answer; '' with an answer."""

    method: str
    group: str
    status: int = 0
    error: str = ""

    @property
    def result(self) -> str:
        """``2xx`` …, ``429``, or the code of the error."""
        if not self.status:
            return self.error
        return "429" if self.status == 429 else f"{self.status // 100}xx"


class Http:
    """Requests to one LMS, with the rate limits and circuit breakers that all workers share.

    base_url: the LMS's address for servers; '' if there is no LMS. browser_url: its address for
    browsers, if that differs. timeout: seconds for one request and its whole answer. per_second:
    the most requests in a second, 0 for no limit. state: the shared limits. wrap_request: returns a
    context manager that is entered for each exchange, such as a timer for metrics.
    Raises BadAddress for an address that isn't http or https, or that contains a password.
    """

    def __init__(
        self,
        base_url: str,
        *,
        browser_url: str = "",
        timeout: float = 60.0,
        per_second: float = 0.0,
        state: SharedState,
        wrap_request: Callable[[Exchange], AbstractContextManager[Any]] | None = None,
    ) -> None:
        self.base_url = base(base_url) if base_url else ""
        self._wrap_request = wrap_request or nullcontext
        self.browser_url = base(browser_url) if browser_url else self.base_url
        self.state = state
        self._health = HealthRecorder()
        self._host_circuit = Circuit(state, "host")
        #: Group of endpoints → its circuit breaker; '' for pages that belong to no group.
        self._circuits: dict[str, Circuit] = {}
        #: Numbers that stand in for the subject of requests without one.
        self._request_numbers = itertools.count()
        self._timeout = timeout
        self._per_second = per_second
        self._budget_lock = threading.Lock()
        self._idle_connections: deque[Transport] = deque()
        self._ssl: ssl.SSLContext | None = None
        if self.base_url.startswith("https:"):
            self._ssl = ssl.create_default_context()
        self._headers = self._common_headers()

    def _common_headers(self) -> dict[str, str]:
        """Headers of every request. The LMS builds its own addresses from ``Host`` and
        ``X-Forwarded-Proto``, so these two headers name the address that browsers use."""
        server_url, browser_url = urlsplit(self.base_url), urlsplit(self.browser_url)
        headers = {"Host": browser_url.netloc, "User-Agent": "usher", "Accept": "application/json"}
        if server_url.scheme != browser_url.scheme:
            headers["X-Forwarded-Proto"] = browser_url.scheme
        return headers

    def request(
        self,
        method: str,
        path: str,
        *,
        group: str = "",
        params: Mapping[str, Any] | None = None,
        json_body: Any = None,
        form: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        token: str = "",
        again: bool | None = None,
        subject: str = "",
        request_id: str = "",
    ) -> Answer:
        """Sends one request. Returns the answer, whatever its status, except for 429 and 5xx.

        path: begins with one slash. group: the endpoint's group, which has one rate limit; while
        the group is paused, Throttled is raised without a request. again: whether the request may
        be sent a second time after a failure (default: only GET). subject: the run or learner that
        the request is about; an endpoint may fail for one subject and work for all others.
        request_id: for ``X-Request-ID``, '' for a new one. Raises Unreachable, TimedOut,
        CircuitOpen, BadAnswer, ServerFailed (5xx), Throttled (429), NotConfigured, Misconfigured
        for a header or token that can't be sent, and the error of ``sending_only_if``'s check.
        """
        if params:
            path += ("&" if "?" in path else "?") + urlencode(params, doseq=True)
        outgoing = Outgoing(method, self._url(path), self._headers)
        request_id = request_id or f"{random.getrandbits(64):016x}"
        outgoing.add(
            json_body=json_body,
            form=form,
            headers={"X-Request-ID": request_id, **(headers or {})},
            cookies=cookies,
            token=token,
        )
        is_repeatable = method == "GET" if again is None else again
        for is_last_attempt in (False, True):
            try:
                # A request without a subject is a subject of its own for the circuit breaker.
                answer = self._request_once(
                    outgoing, group, subject or f"request {next(self._request_numbers)}"
                )
                return replace(answer, request_id=request_id)
            except LmsError as error:
                error.with_request_id(request_id)
                if is_last_attempt or not _should_repeat(error, is_repeatable=is_repeatable):
                    raise
                time.sleep(random.uniform(0.02, 0.1))  # noqa: S311 - spreads load, no secret
        raise AssertionError("the last attempt has returned an answer or raised an error")

    def _url(self, path: str) -> str:
        """The address of a path of the LMS."""
        if not path.startswith("/") or path.startswith("//"):
            raise ValueError(f"a path of the LMS begins with one slash, not so {path[:200]!r}")
        return self.base_url + path

    def _request_once(self, outgoing: Outgoing, group: str, subject: str) -> Answer:
        """One attempt of ``request``. Obeys the limits and circuit breakers before it, and records
        the result in them."""
        if group and (pause := self.state.remaining(f"group:{group}")) > 0:
            raise Throttled(f"Rate limited by the LMS ({group}).", retry_after=pause)
        circuit = self._circuit(group)
        # Checked before ``enter``, which would claim the probe of the group's circuit breaker.
        if (pause := self._host_circuit.seconds_until_allowed) > 0:
            self._host_circuit.refuse(pause)
        circuit.enter()
        self._host_circuit.enter()
        if self._per_second:
            self._wait_for_the_budget()
        check_before_sending()
        began = time.monotonic()
        try:
            answer = self._exchange(outgoing, group)
        except NotConfigured:
            raise  # no LMS was asked, so its health is unknown
        except LmsError as error:
            self._health.record_failure(error.message)
            is_connected = not (isinstance(error, Unreachable) and error.is_unconnected)
            failed_circuit = circuit if is_connected else self._host_circuit
            failed_circuit.record_failure(error.message, subject=subject, is_connected=is_connected)
            raise
        if answer.status >= 500:
            failure = ServerFailed(
                f"The LMS failed with {answer.status} at {outgoing.path}.",
                status=answer.status,
                retry_after=_seconds_in_header(answer),
            )
            circuit.record_failure(failure.message, subject=subject, is_connected=True)
            self._health.record_failure(failure.message)
            raise failure
        self._health.record_answer(time.monotonic() - began)
        circuit.record_success()
        self._host_circuit.record_success()
        if answer.status == 429:
            wait = retry_after(answer)
            if wait is None:
                wait = _DEFAULT_WAIT_SECONDS
            raise self.pause_group(group, max(wait, _MIN_WAIT_SECONDS))
        return answer

    def _wait_for_the_budget(self) -> None:
        """Waits until the budget of requests allows one more request. An urgent request reserves
        the next free time, however late. Other requests reserve a time only if it begins within one
        interval, so that an urgent request does not wait behind many reservations."""
        if is_urgent():
            time.sleep(self.state.take("budget", self._per_second))
            return
        with self._budget_lock:  # one thread of this process at a time
            interval = 1 / self._per_second
            is_taken, wait = self.state.take_soon("budget", self._per_second, interval)
            while not is_taken:
                time.sleep(wait)
                is_taken, wait = self.state.take_soon("budget", self._per_second, interval)
        time.sleep(wait)

    def _circuit(self, group: str) -> Circuit:
        return self._circuits.setdefault(group, Circuit(self.state, group or "pages"))

    def health(self) -> Health:
        """The LMS's health as this process has observed it. Sends no request."""
        health, circuits = self._health, {"host": self._host_circuit, **self._circuits}
        # Pages, the group named '', have a circuit breaker but no pauses.
        throttled = {name: self.state.remaining(f"group:{name}") for name in self._circuits if name}
        return Health(
            answered_at=health.answered_at,
            failed_at=health.failed_at,
            failure=health.failure,
            milliseconds=tuple(health.milliseconds),
            open_circuits={
                name or "pages": circuit.seconds_until_allowed
                for name, circuit in circuits.items()
                if circuit.is_open
            },
            throttled={name: seconds for name, seconds in throttled.items() if seconds > 0},
        )

    def pause_group(self, group: str, seconds: float) -> Throttled:
        """Pauses the group for all workers for this many seconds. Returns the error to raise."""
        seconds = min(seconds, _MAX_WAIT_SECONDS)
        if group:
            self.state.pause(f"group:{group}", seconds)
        return Throttled(
            f"Rate limited by the LMS ({group or 'pages'}).", retry_after=seconds, status=429
        )

    def _exchange(self, outgoing: Outgoing, group: str) -> Answer:
        """Sends the request within a span and within ``wrap_request``; both get its result."""
        exchange = Exchange(outgoing.method, group or "pages")
        name = f"LMS {exchange.method} {exchange.group}"
        with self._wrap_request(exchange), span(name, is_request=True) as active_span:
            active_span.set_attributes(
                http__request__method=exchange.method, usher__endpoints=exchange.group
            )
            try:
                answer = self._send(outgoing)
            except LmsError as error:
                exchange.error = error.code
                active_span.fail(error.code)
                raise
            exchange.status = answer.status
            active_span.set_attributes(http__response__status_code=answer.status)
            if answer.status >= 400:
                active_span.fail(str(answer.status))
            return answer

    def _send(self, outgoing: Outgoing) -> Answer:
        """Sends the request over an idle or new connection, which is kept unless it fails."""
        if not (timeout := seconds_left(self._timeout)):
            raise TimedOut(
                f"The time limit passed before the request for {outgoing.path} was sent."
            )
        connection = self._idle_or_new()
        received = connection.exchange(outgoing, timeout)
        self._idle_connections.append(connection)
        return Answer(received.status, received.headers, received.body)

    def _idle_or_new(self) -> Transport:
        """A connection for this thread only. Takes the idle connection that was used last, so that
        the other idle connections expire."""
        with suppress(IndexError):
            return self._idle_connections.pop()
        # Outside of ``suppress``, so that an error here does not have the IndexError as its
        # context.
        return open_connection(self.base_url, self._ssl)

    def close(self) -> None:
        """Closes the idle connections. A later request opens new ones."""
        while self._idle_connections:
            self._idle_connections.pop().close()

    def own_path(self, location: str) -> str | None:
        """The path and query of ``location`` if ``location`` is an address of this LMS, for servers
        or for browsers; None otherwise."""
        try:
            target = urljoin(self.browser_url + "/", location)
            url = urlsplit(target)
            # A fragment never reaches a server, so one in a redirect does no harm.
            target_origin = origin(target.partition("#")[0])
        except ValueError:  # includes BadAddress
            return None
        path = url.path or "/"
        own_origins = (origin(self.base_url), origin(self.browser_url))
        if target_origin not in own_origins or path.startswith("//"):
            return None
        return path + (f"?{url.query}" if url.query else "")


def read_json(body: bytes) -> Any:
    """``body`` as JSON. Raises ValueError if it isn't valid JSON. ``NaN`` and ``Infinity`` are not
    valid, although Python accepts them."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _should_repeat(error: LmsError, *, is_repeatable: bool) -> bool:
    """Whether to send the request a second time: always if no connection was made; never after a
    timeout, because the caller would wait twice as long; after other transient errors if the
    request is repeatable."""
    if isinstance(error, Unreachable) and error.is_unconnected:
        return True
    if isinstance(error, TimedOut):
        return False
    return is_repeatable and isinstance(error, Unreachable | BadAnswer | ServerFailed)


def _seconds_in_header(answer: Answer) -> float | None:
    """The seconds in ``Retry-After``; None if it is missing or anything but a whole number of at
    most nine digits."""
    value = answer.headers.get("retry-after", "")
    return min(float(value), _MAX_WAIT_SECONDS) if _WHOLE_SECONDS.fullmatch(value) else None


def retry_after(answer: Answer) -> float | None:
    """Seconds to wait, from the header ``Retry-After`` or, for the course list, from the body; None
    if the answer does not say."""
    if (seconds := _seconds_in_header(answer)) is not None:
        return seconds
    match = _SECONDS_IN_BODY.search(answer.body[:2000])
    return float(match.group(1)) if match else None
