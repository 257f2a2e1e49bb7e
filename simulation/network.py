"""The network between the application and the LMS, and its failures.

The model assumes, as every client has to, that a request reaches the LMS within
``MAX_REQUEST_SECONDS`` seconds or not at all. ``MAX_REQUEST_SECONDS`` is less than the remaining
time of a lease after its last renewal.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from benchmarks.lms.server import Request, Response
from django.db import connection
from tests.support.impostors import Impostor

from simulation.event_log import EventLog
from simulation.lms import SimulatedLms
from simulation.scheduler import Process, Scheduler, Task

#: The most seconds from sending a request to its arrival at the LMS. A lease of 60 s is renewed
#: every 20 s, so at least 40 s of it remain.
MAX_REQUEST_SECONDS = 36.0


class RequestInTransaction(AssertionError):
    """A request was sent to the LMS within a database transaction."""


@dataclass
class Message:
    """One request to the LMS. Times are in virtual seconds."""

    number: int
    process: Process
    request: Request
    #: (kind, job) of the jobs for which the request is sent.
    jobs: Any
    #: When the worker began with these jobs.
    began: float
    #: When the request was sent.
    sent_at: float
    #: The answer that the client gets; None until then.
    answer: Response | httpx.TransportError | None = None
    #: Whether the request may still reach the LMS.
    in_flight: bool = True


@dataclass
class FaultRates:
    """Probabilities of failures, from 0 to 1."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    late_request: float = 0.0
    late_answer: float = 0.0
    #: A 5xx answer, before or after the LMS carries out the request.
    failure: float = 0.0
    #: A 429 answer.
    throttle: float = 0.0
    #: An answer of which only the first half arrives.
    half_answer: float = 0.0
    #: A failure of the LMS's request to the application.
    callback: float = 0.0


@dataclass
class Network:
    """Delivers requests to the LMS and its answers, and loses, delays or spoils some of them."""

    scheduler: Scheduler
    lms: SimulatedLms
    event_log: EventLog
    rng: random.Random
    fault_rates: FaultRates = field(default_factory=FaultRates)
    #: The most seconds that a request, or an answer, takes without a failure.
    max_usual_seconds: float = 0.2
    #: Another server that answers at the LMS's address; None if there is none.
    impostor: Impostor | None = None
    #: Whether nothing answers at the LMS's address.
    is_down: bool = False
    messages: list[Message] = field(default_factory=list)
    #: Called with an error that must fail the seed.
    report: Callable[[Exception], None] = lambda error: None
    #: Called when a request arrives at the LMS, and after the LMS answered it.
    on_arrival: Callable[[Message], None] = lambda message: None
    on_answer: Callable[[Message], None] = lambda message: None

    def exchange(self, request: httpx.Request) -> httpx.Response:
        """Send a request from a thread of a process; return its answer. Raises
        httpx.TransportError."""
        if connection.in_atomic_block:
            violation = (
                f"{request.method} {request.url.path} was sent within a database transaction"
            )
            self.report(RequestInTransaction(violation))
            raise httpx.ConnectError("not sent", request=request)
        task = self.scheduler.task
        if task is None:
            raise AssertionError("only a thread of a process can send a request to the LMS")
        message = self._message(request, task)
        self.event_log.add_request(message)
        self._send(message)
        seconds = request.extensions["timeout"]["read"]
        self.scheduler.wait(lambda: message.answer is not None, seconds)
        answer = message.answer or httpx.ReadTimeout("no answer in time", request=request)
        self.event_log.add_answer(message, answer)
        if isinstance(answer, httpx.TransportError):
            raise answer
        headers = list(answer.headers)
        if answer.kind:
            headers.append(("Content-Type", answer.kind))
        return httpx.Response(answer.status, headers=headers, content=answer.body, request=request)

    def _message(self, request: httpx.Request, task: Task) -> Message:
        """Makes a message of the request, and records it in ``messages``."""
        target = request.url.raw_path.decode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        lms_request = Request(request.method, target, headers, request.content)
        now = self.scheduler.read_clock()
        message = Message(
            number=len(self.messages) + 1,
            process=task.process,
            request=lms_request,
            jobs=task.jobs,
            began=task.began or now,
            sent_at=now,
        )
        self.messages.append(message)
        return message

    def senders(self) -> set[Process]:
        """Processes that have a request in flight."""
        # Hardly ever is an older message still in flight, and checking all would be slow.
        return {message.process for message in self.messages[-40:] if message.in_flight}

    def _send(self, message: Message) -> None:
        """Decide whether the request is answered by something else, is lost, or reaches the LMS."""
        rng, fault_rates = self.rng, self.fault_rates
        if self.is_down:
            self._answer_in(
                self.max_usual_seconds, message, httpx.ConnectError("connection refused")
            )
            message.in_flight = False
            return
        if self.impostor is not None and self.impostor.answers(message.request.path):
            message.in_flight = False
            self._answer_in(
                rng.uniform(0.01, self.max_usual_seconds), message, _answer_of(self.impostor)
            )
            return
        if rng.random() < fault_rates.lost_request:
            message.in_flight = False
            is_reset = rng.random() < 0.7  # otherwise the client waits for its timeout
            if is_reset:
                self._answer_in(rng.uniform(0, 3), message, httpx.ReadError("connection reset"))
            return
        is_late = rng.random() < fault_rates.late_request
        seconds = (
            rng.uniform(1, MAX_REQUEST_SECONDS)
            if is_late
            else rng.uniform(0.005, self.max_usual_seconds)
        )
        self.scheduler.call_after(seconds, lambda: self._arrive(message))

    def _arrive(self, message: Message) -> None:
        """The request reaches the LMS, which fails, or carries it out and answers. The answer may
        be lost or spoilt."""
        rng, fault_rates = self.rng, self.fault_rates
        message.in_flight = False
        if self.is_down:
            self._answer_in(0.0, message, httpx.ReadError("connection reset"))
            return
        # The LMS may fail before it does anything. Half of its failures are such failures.
        fails_below = fault_rates.failure / 2
        throttles_below = fails_below + fault_rates.throttle
        fate = rng.random()
        if fate < fails_below:
            self.event_log.add_lms_event("fails before it does anything", message)
            self._answer_in(self.max_usual_seconds, message, _page(rng.choice((500, 502, 503))))
            return
        if fate < throttles_below:
            self.event_log.add_lms_event("throttles", message)
            wait = str(rng.choice((2, 5, 30)))
            busy = Response(429, b'{"detail": "Request was throttled."}', [("Retry-After", wait)])
            self._answer_in(self.max_usual_seconds, message, busy)
            return
        self.on_arrival(message)
        answer = self.lms.answer(message.request)
        self.event_log.add_lms_answer(message, answer)
        self.on_answer(message)
        # The answer may be lost, replaced by an error, or cut off.
        lost_below = fault_rates.lost_answer
        error_below = lost_below + fault_rates.failure / 2
        half_below = error_below + fault_rates.half_answer
        fate = rng.random()
        if fate < lost_below:
            is_reset = rng.random() < 0.7  # otherwise the client waits for its timeout
            if is_reset:
                self._answer_in(
                    self.max_usual_seconds, message, httpx.ReadError("connection reset")
                )
            return
        if fate < error_below:
            answer = _page(rng.choice((500, 502, 504)))
        elif fate < half_below and answer.body:
            partial_body = answer.body[: len(answer.body) // 2]
            answer = Response(answer.status, partial_body, answer.headers, answer.kind)
        is_late = rng.random() < fault_rates.late_answer
        # A late answer may come after the client's timeout of 60 s.
        seconds = rng.uniform(1, 90) if is_late else rng.uniform(0.005, self.max_usual_seconds)
        self._answer_in(seconds, message, answer)

    def _answer_in(
        self, seconds: float, message: Message, answer: Response | httpx.TransportError
    ) -> None:
        """Give the client this answer, or error, after so many seconds."""

        def arrive() -> None:
            message.answer = answer

        self.scheduler.call_after(seconds, arrive)


def _page(status: int) -> Response:
    return Response(status, b"<h1>Server Error</h1>", kind="text/html; charset=utf-8")


def _answer_of(impostor: Impostor) -> Response:
    headers = [(name, value) for name, value in impostor.headers() if name != "Content-Type"]
    return Response(impostor.status, impostor.body, headers, impostor.content_type)


class Connection(httpx.BaseTransport):
    """The transport that ``usher.client.connection.opened_by`` uses in place of a connection."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._network.exchange(request)

    def close(self) -> None:
        """Does nothing: there is no real connection."""
