"""Tells a run of the engine that it is to stop."""

from __future__ import annotations

import time
from multiprocessing.sharedctypes import RawValue
from typing import Protocol

_LOOK_SECONDS = 0.1


class Stop(Protocol):
    """As ``threading.Event`` has them."""

    def is_set(self) -> bool:
        """Whether nothing new is to be begun."""

    def wait(self, timeout: float) -> object:
        """Returns after so many seconds, or when it is set."""


class SharedStop:
    """Seen by a process and by those it forks afterwards: Celery's main process sets it for its
    pool. Without a lock, so that a signal handler may set it at any moment."""

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
    """Set when ``stop`` is, and after so many seconds."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop = stop
        self._until = time.monotonic() + seconds

    def is_set(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._until

    def wait(self, timeout: float) -> None:
        _wait(self, timeout)


def _wait(stop: Stop, timeout: float) -> None:
    until = time.monotonic() + timeout
    while not stop.is_set() and (left := until - time.monotonic()) > 0:
        time.sleep(min(_LOOK_SECONDS, left))
