"""Objects that tell a pass to stop."""

from __future__ import annotations

import time
from multiprocessing.sharedctypes import RawValue
from typing import Protocol

#: Seconds between two checks whether the event is set.
_CHECK_SECONDS = 0.1


class Stop(Protocol):
    """The part of ``threading.Event`` that a pass needs."""

    def is_set(self) -> bool:
        """Whether the pass must not begin anything new."""

    def wait(self, timeout: float) -> object:
        """Returns after ``timeout`` seconds, or as soon as the event is set."""


class SharedStop:
    """An event shared by all processes that are forked after its creation: Celery's main process
    sets it for the processes of its pool. It has no lock, so a signal handler can set it at any
    time."""

    def __init__(self) -> None:
        self._flag = RawValue("b", 0)

    def is_set(self) -> bool:
        return bool(self._flag.value)

    def set(self) -> None:
        self._flag.value = 1

    def clear(self) -> None:
        self._flag.value = 0

    def wait(self, timeout: float) -> None:
        _wait(self, timeout)


class StopAfter:
    """A ``Stop`` that is set as soon as ``stop`` is, or ``seconds`` after its creation."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop = stop
        self._until = time.monotonic() + seconds

    def is_set(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._until

    def wait(self, timeout: float) -> None:
        _wait(self, timeout)


def _wait(stop: Stop, timeout: float) -> None:
    until = time.monotonic() + timeout
    while not stop.is_set() and (seconds := until - time.monotonic()) > 0:
        time.sleep(min(_CHECK_SECONDS, seconds))
