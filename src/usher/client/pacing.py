"""Adapts the size of batches, and how many are sent at once, to the speed of the LMS.

A batch keeps one process of the LMS busy until it is answered. So the size is chosen by the time
that batches take, and only so many are sent at once that a process stays free. A small request, the
probe, shows that: it takes longer as soon as there are too many batches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds that a batch should take.
TARGET = 1.0
#: Items in the first batch, and in the smallest.
FIRST_SIZE, SMALLEST_SIZE = 25, 5
#: Never more batches at once than this, however fast the LMS is.
MOST_AT_ONCE = 4
#: A probe is good if it takes at most so many seconds: visitors of the LMS wait as long.
PATIENCE = 0.3
#: Seconds between two probes, and how many good probes in a row allow one more batch at once.
PROBE_EVERY, GOOD_PROBES = 1.0, 3
#: After so many good probes, a number of batches that was too high is tried again: the LMS may have
#: more processes by now.
TRY_AGAIN = 120


class Pacing:
    """The pace of batches for one LMS and one kind of item. Threads share it. largest: the most
    items in a request. clock: seconds."""

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
        """Waits until one more batch may be sent; yields how many items it may have. Send the batch
        within the block. at_once: does not wait, for a batch that a person waits for."""
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
        """Call it after a batch was answered; adapts the size so that the next one takes TARGET.
        The size only grows after a full batch: a small one doesn't show how long larger ones
        take."""
        fitting = int(items * TARGET / max(seconds, 0.001))
        with self._changed:
            if fitting < self.size:
                self.size = max(fitting, self.size // 2, SMALLEST_SIZE)
            elif items >= self.size:
                self.size = min(fitting, self.size * 2, self.largest)

    def failed(self) -> None:
        """Call it after a batch timed out or failed: the next ones are smaller, and fewer at
        once."""
        with self._changed:
            self.size = max(self.size // 2, SMALLEST_SIZE)
            self._fewer()

    def probe_is_due(self) -> bool:
        """Whether the caller should send a probe now. True for only one caller at a time."""
        with self._changed:
            if self._clock() - self._probed_at < PROBE_EVERY:
                return False
            self._probed_at = self._clock()
            return True

    def probed(self, seconds: float) -> None:
        """Call it with the time of a probe: decides how many batches may be sent at once."""
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
        """One batch less at once; if there was only one, smaller batches."""
        self._good = 0
        if self.at_once == 1:
            self.size = max(self.size // 2, SMALLEST_SIZE)
            return
        self._ceiling = self.at_once - 1
        self.at_once = self._ceiling
