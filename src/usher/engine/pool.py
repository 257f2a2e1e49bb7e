"""A pool of threads for requests to the other system, in which urgent calls come first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

#: One of this many threads is reserved for urgent calls; of fewer threads, none.
_THREADS_PER_RESERVED_THREAD = 8

_Call = tuple[Callable[..., None], tuple[Any, ...]]


class Pool:
    """At most ``size`` threads, started when there is work.

    Urgent calls start before background calls. If there are ``_THREADS_PER_RESERVED_THREAD`` or
    more threads, background calls never use all of them, so an urgent call can start even while
    every background call waits for the other system.

    The threads are daemons, so the process can end while they run. Their requests are then lost,
    and the rows of these requests stay leased until the leases run out.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size, self._name = max(1, size), name
        self._max_background = max(1, self._size - self._size // _THREADS_PER_RESERVED_THREAD)
        self._urgent: deque[_Call] = deque()
        self._background: deque[_Call] = deque()
        #: Notified when a call was submitted or has ended, and when the pool is closed.
        self._changed = threading.Condition()
        self._thread_count = self._idle_count = self._background_count = 0
        self._is_closed = False

    def submit(self, call: Callable[..., None], *args: Any, urgent: bool = False) -> None:
        """Runs ``call(*args)`` in one of the threads. ``call`` must not raise."""
        with self._changed:
            (self._urgent if urgent else self._background).append((call, args))
            self._changed.notify()
            waiting = len(self._urgent) + len(self._background)
            if waiting > self._idle_count and self._thread_count < self._size:
                self._thread_count += 1
                name = f"{self._name}-{self._thread_count}"
                threading.Thread(target=self._work, name=name, daemon=True).start()

    def close(self) -> None:
        """Drops the calls that have not started, and does not wait for the others."""
        with self._changed:
            self._is_closed = True
            self._urgent.clear()
            self._background.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        """What each thread does: runs one call after another until the pool is closed."""
        while (next_call := self._next()) is not None:
            (call, args), is_background = next_call
            try:
                call(*args)
            finally:
                if is_background:
                    with self._changed:
                        self._background_count -= 1
                        self._changed.notify()  # the next background call may start

    def _next(self) -> tuple[_Call, bool] | None:
        """Waits for a call to run. Returns the call, and whether it is a background call; None when
        the pool is closed."""
        with self._changed:
            while not self._is_closed:
                if self._urgent:
                    return self._urgent.popleft(), False
                if self._background and self._background_count < self._max_background:
                    self._background_count += 1
                    return self._background.popleft(), True
                self._idle_count += 1
                self._changed.wait()
                self._idle_count -= 1
        return None
