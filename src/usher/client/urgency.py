"""Requests that a person waits for are sent before the requests of a backlog.

In a block ``with urgent():`` a request gets the next free time in the budget of requests, and does
not wait for batches in progress. A block ``with within(seconds):`` limits the total time of this
thread's requests; requests after that time raise TimedOut. A block ``with sending_only_if(check):``
calls ``check`` before each request.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("usher_until", default=math.inf)
_check: ContextVar[Callable[[], None]] = ContextVar("usher_check", default=lambda: None)
_urgent: ContextVar[bool] = ContextVar("usher_urgent", default=False)


def is_urgent() -> bool:
    """Whether the caller is within ``urgent``."""
    return _urgent.get()


@contextmanager
def urgent() -> Iterator[None]:
    """Requests within the block are sent before the requests of a backlog."""
    token = _urgent.set(True)
    try:
        yield
    finally:
        _urgent.reset(token)


def seconds_left(timeout: float) -> float:
    """The seconds that a request may take: ``timeout``, or less if the time of a block ``within``
    ends earlier; 0 after that time."""
    return max(0.0, min(timeout, _until.get() - time.monotonic()))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Requests within the block take at most this many seconds in total."""
    token = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)


def check_before_sending() -> None:
    """Raises what the check of a block ``sending_only_if`` raises."""
    _check.get()()


@contextmanager
def sending_only_if(check: Callable[[], None]) -> Iterator[None]:
    """Calls ``check`` before each request within the block is sent, repeated requests included.
    Whatever it raises is raised in place of sending the request."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)
