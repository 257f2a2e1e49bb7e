"""Which requests go first: those that a person waits for, before those of a long backlog.

Within ``with urgent():`` a request takes the next free place of the budget of requests, and does
not wait for a batch that is under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
