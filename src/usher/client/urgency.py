"""Which requests go first: those that a person waits for, before those of a long backlog.

Within ``with urgent():`` a request takes the next free place of the budget of requests, and does
not wait for a batch that is under way. Within ``with within(seconds):`` all requests of this thread
together take so long at most; what would take longer raises TimedOut.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("usher_until", default=math.inf)
_urgent: ContextVar[bool] = ContextVar("usher_urgent", default=False)


def is_urgent() -> bool:
    """Whether this code is within ``urgent``."""
    return _urgent.get()


@contextmanager
def urgent() -> Iterator[None]:
    token = _urgent.set(True)
    try:
        yield
    finally:
        _urgent.reset(token)


def seconds_left(timeout: float) -> float:
    """``timeout``, or less where a ``within`` ends before; 0 after its end."""
    return max(0.0, min(timeout, _until.get() - time.monotonic()))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    token = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(token)
