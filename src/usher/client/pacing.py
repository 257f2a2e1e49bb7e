"""How large a batch is, and how many are under way at once: learned from what the LMS does.

A batch keeps one of the LMS's processes busy for as long as it takes. So it is sized by time, and
there are only as many at once as leave a process free: a cheap request beside them, the probe,
takes long as soon as there are too many.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds that a batch should take.
TARGET = 1.0
FIRST_SIZE, SMALLEST_SIZE = 25, 5
#: Batches at once: never more, whatever the LMS stands.
MOST_AT_ONCE = 4
#: Seconds that somebody who opens a page may wait because of us.
PATIENCE = 0.3
#: Seconds between two probes, and how many good ones allow one batch more.
PROBE_EVERY, GOOD_PROBES = 1.0, 3
#: Good probes after which a number that was too many is tried again: an LMS may have grown.
TRY_AGAIN = 120


class Pacing:
    """Of one LMS and one kind of item; threads share it. largest: items a request may have."""

    def __init__(self, largest: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.largest = largest
        self.size = min(FIRST_SIZE, largest)
        self.at_once = 1
        self._ceiling = MOST_AT_ONCE
        self._good = 0
        self._under_way = 0
        self._clock = clock
        self._probed_at = clock()
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, *, at_once: bool = False) -> Iterator[int]:
        """Waits until another batch may be under way; how many items it may have. at_once: does
        not wait, because somebody waits for this one."""
        with self._changed:
            if not at_once:
                self._changed.wait_for(lambda: self._under_way < self.at_once)
            self._under_way += 1
            size = self.size
        try:
            yield size
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def took(self, items: int, seconds: float) -> None:
        """A batch was answered: the next ones are to take TARGET. A small one says nothing about
        larger ones, so growing takes a full one."""
        fitting = int(items * TARGET / max(seconds, 0.001))
        with self._changed:
            if fitting < self.size:
                self.size = max(fitting, self.size // 2, SMALLEST_SIZE)
            elif items >= self.size:
                self.size = min(fitting, self.size * 2, self.largest)

    def failed(self) -> None:
        """A batch timed out or failed: send smaller ones, one at a time."""
        with self._changed:
            self.size = max(self.size // 2, SMALLEST_SIZE)
            self._fewer()

    def probe_is_due(self) -> bool:
        """Whether this caller is to probe now; only one is told so."""
        with self._changed:
            if self._clock() - self._probed_at < PROBE_EVERY:
                return False
            self._probed_at = self._clock()
            return True

    def probed(self, seconds: float) -> None:
        """A cheap request took this long beside the batches."""
        with self._changed:
            if seconds > PATIENCE:
                self._fewer()
                return
            self._good += 1
            if self._good % TRY_AGAIN == 0:
                self._ceiling = min(self._ceiling + 1, MOST_AT_ONCE)
            if self._good >= GOOD_PROBES and self.at_once < self._ceiling:
                self.at_once += 1
                self._good = 0
                self._changed.notify_all()

    def _fewer(self) -> None:
        """This many were too many. With only one of them, it was too large."""
        self._good = 0
        if self.at_once == 1:
            self.size = max(self.size // 2, SMALLEST_SIZE)
            return
        self._ceiling = self.at_once - 1
        self.at_once = self._ceiling
