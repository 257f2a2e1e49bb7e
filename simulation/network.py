"""The network between the application and the LMS, and its failures.

The model assumes, as every client has to, that a request reaches the LMS within ``LATEST`` seconds
or not at all. ``LATEST`` is less than the remaining time of a lease after its last renewal.
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
from simulation.lms import Model
from simulation.scheduler import Process, Scheduler, Task

#: The most seconds from sending a request to its arrival at the LMS. A lease of 60 s is renewed
#: every 20 s, so at least 40 s of it remain.
LATEST = 36.0


class RequestInTransaction(AssertionError):
    """A request was sent to the LMS within a database transaction."""


@dataclass
class Message:
    """One request. jobs: (kind, job) of the jobs that it is sent for. began: when the worker began
    with these jobs. sent_at: when it was sent; both in virtual seconds. answer: the answer that the
    client gets; None until then."""

    number: int
    process: Process
    request: Request
    jobs: Any
    began: float
    sent_at: float
    answer: Response | httpx.TransportError | None = None
    in_flight: bool = True


@dataclass
class FaultRates:
    """Probabilities of failures, from 0 to 1. failure: a 5xx answer, before or after the LMS acts.
    throttle: a 429 answer. cut: half an answer. callback: a failure of the LMS's request to the
    application.
    """

    lost_request: float = 0.0
    lost_answer: float = 0.0
    late_request: float = 0.0
    late_answer: float = 0.0
    failure: float = 0.0
    throttle: float = 0.0
    cut: float = 0.0
    callback: float = 0.0


@dataclass
class Network:
    """Delivers requests to the LMS and its answers, and loses, delays or spoils some of them."""

    scheduler: Scheduler
    lms: Model
    event_log: EventLog
    rng: random.Random
    fault_rates: FaultRates = field(default_factory=FaultRates)
    #: The most seconds that a request, or an answer, takes without a failure.
    soon: float = 0.2
    impostor: Impostor | None = None
    is_down: bool = False
    messages: list[Message] = field(default_factory=list)
    #: Called with an error that must fail the seed.
    report: Callable[[Exception], None] = lambda error: None
    #: Called when a request arrives at the LMS, and after the LMS answered it.
    arriving: Callable[[Message], None] = lambda message: None
    answered: Callable[[Message], None] = lambda message: None

    def exchange(self, request: httpx.Request) -> httpx.Response:
        """Send a request from a thread of a process; return its answer. Raises
        httpx.TransportError."""
        if connection.in_atomic_block:
            words = f"{request.method} {request.url.path} was sent within a database transaction"
            self.report(RequestInTransaction(words))
            raise httpx.ConnectError("not sent", request=request)
        task = self.scheduler.task
        if task is None:
            raise AssertionError("only a thread of a process asks the LMS")
        message = self._message(request, task)
        self.event_log.sent(message)
        self._send(message)
        seconds = request.extensions["timeout"]["read"]
        self.scheduler.wait(lambda: message.answer is not None, seconds)
        answer = message.answer or httpx.ReadTimeout("no answer in time", request=request)
        self.event_log.got(message, answer)
        if isinstance(answer, httpx.TransportError):
            raise answer
        headers = (
            [*answer.headers, ("Content-Type", answer.kind)] if answer.kind else answer.headers
        )
        return httpx.Response(
            answer.status, headers=list(headers), content=answer.body, request=request
        )

    def _message(self, request: httpx.Request, task: Task) -> Message:
        target = request.url.raw_path.decode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        plain = Request(request.method, target, headers, request.content)
        now = self.scheduler.read_clock()
        self.messages.append(
            Message(len(self.messages) + 1, task.process, plain, task.jobs, task.began or now, now)
        )
        return self.messages[-1]

    def senders(self) -> set[Process]:
        """Processes that have a request in flight."""
        return {message.process for message in self.messages[-40:] if message.in_flight}

    def _send(self, message: Message) -> None:
        rng, fault_rates = self.rng, self.fault_rates
        if self.is_down:
            self._answer_in(self.soon, message, httpx.ConnectError("connection refused"))
            message.in_flight = False
            return
        if self.impostor is not None and self.impostor.answers(message.request.path):
            message.in_flight = False
            self._answer_in(rng.uniform(0.01, self.soon), message, _said_by(self.impostor))
            return
        if rng.random() < fault_rates.lost_request:
            message.in_flight = False
            if rng.random() < 0.7:
                self._answer_in(rng.uniform(0, 3), message, httpx.ReadError("connection reset"))
            return  # without an answer, the client waits for its timeout
        is_late = rng.random() < fault_rates.late_request
        seconds = rng.uniform(1, LATEST) if is_late else rng.uniform(0.005, self.soon)
        self.scheduler.after(seconds, lambda: self._arrive(message))

    def _arrive(self, message: Message) -> None:
        rng, fault_rates = self.rng, self.fault_rates
        message.in_flight = False
        if self.is_down:
            self._answer_in(0.0, message, httpx.ReadError("connection reset"))
            return
        fate = rng.random()
        if fate < fault_rates.failure / 2:
            self.event_log.lms("fails before it does anything", message)
            self._answer_in(self.soon, message, _page(rng.choice((500, 502, 503))))
            return
        if fate < fault_rates.failure / 2 + fault_rates.throttle:
            self.event_log.lms("throttles", message)
            wait = str(rng.choice((2, 5, 30)))
            busy = Response(429, b'{"detail": "Request was throttled."}', [("Retry-After", wait)])
            self._answer_in(self.soon, message, busy)
            return
        self.arriving(message)
        answer = self.lms.answer(message.request)
        self.event_log.answered(message, answer)
        self.answered(message)
        fate = rng.random()
        if fate < fault_rates.lost_answer:
            if rng.random() < 0.7:
                self._answer_in(self.soon, message, httpx.ReadError("connection reset"))
            return
        if fate < fault_rates.lost_answer + fault_rates.failure / 2:
            answer = _page(rng.choice((500, 502, 504)))
        elif (
            fate < fault_rates.lost_answer + fault_rates.failure / 2 + fault_rates.cut
            and answer.body
        ):
            partial_body = answer.body[: len(answer.body) // 2]
            answer = Response(answer.status, partial_body, answer.headers, answer.kind)
        is_late = rng.random() < fault_rates.late_answer
        self._answer_in(
            rng.uniform(1, 90) if is_late else rng.uniform(0.005, self.soon), message, answer
        )

    def _answer_in(
        self, seconds: float, message: Message, answer: Response | httpx.TransportError
    ) -> None:
        def arrive() -> None:
            message.answer = answer

        self.scheduler.after(seconds, arrive)


def _page(status: int) -> Response:
    return Response(status, b"<h1>Server Error</h1>", kind="text/html; charset=utf-8")


def _said_by(impostor: Impostor) -> Response:
    headers = [(name, value) for name, value in impostor.headers() if name != "Content-Type"]
    return Response(impostor.status, impostor.body, headers, impostor.content_type)


class Connection(httpx.BaseTransport):
    """The replacement for the connection that ``usher.client.connection.opened_by`` opens."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self.deadline = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._network.exchange(request)

    def close(self) -> None:
        """Does nothing: there is no real connection."""
