"""Adapts the size of batches, and how many are sent at the same time, to the speed of the LMS.

A batch keeps one process of the LMS busy until it is answered. So the size of batches depends on
the time that batches take, and the number of batches is limited so that one process stays free. A
small request, the probe, shows whether a process is free: the probe takes longer as soon as there
are too many batches.

Workers that share a state (``usher.client.shared``) also share slots for batches: a worker takes a
slot for each batch until the batch ends. So several workers keep the LMS no busier than one
worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from usher.client.shared import LocalState, SharedState

#: Seconds that a batch should take; and the least to which this time is reduced, because in shorter
#: batches the LMS needs too much time for each item.
TARGET_SECONDS, SHORTEST_SECONDS = 1.0, 0.25
#: Items in the first batch, and in the smallest.
FIRST_SIZE, SMALLEST_SIZE = 25, 5
#: The most concurrent batches, however fast the LMS is.
MAX_CONCURRENT = 4
#: A probe is good if it takes at most this many seconds longer than the fastest probe. Visitors of
#: the LMS wait that much longer, too.
PATIENCE_SECONDS = 0.3
#: Seconds between two probes, and how many good probes in a row allow one more concurrent batch.
PROBE_INTERVAL_SECONDS, GOOD_PROBES = 1.0, 3
#: One more concurrent batch is on trial until GOOD_PROBES more probes were good. During the trial,
#: a probe is sent every TRIAL_INTERVAL_SECONDS and may take only TRIAL_PATIENCE_SECONDS longer, and
#: the size of batches is divided by TRIAL_DIVISOR, so that visitors hardly notice a batch too many.
TRIAL_INTERVAL_SECONDS, TRIAL_DIVISOR, TRIAL_PATIENCE_SECONDS = 0.1, 4, 0.1
#: After this many good probes, a number of concurrent batches that was too high is tried again,
#: because the LMS may have more processes by now.
PROBES_UNTIL_RETRY = 120
#: Seconds from the end of a batch to the probe. Meanwhile another thread sends the next batch; an
#: earlier probe would get the process that has just become free.
PROBE_DELAY_SECONDS = 0.05
#: Seconds after which a slot becomes free although its worker did not release it, because the
#: worker was killed or the LMS is very slow.
SLOT_SECONDS = 30.0
#: Seconds between two attempts to take a slot.
SLOT_RETRY_SECONDS = 0.05
#: The key that workers increment in the shared state while they wait for a slot.
_WAITING_WORKER = "batch:waiting"


class Pacing:
    """The pace of batches for one LMS: sizes by kind of item, and the number of concurrent batches,
    whatever their kind. Threads share it. largest: the most items in a request. state: where the
    slots for batches are taken. clock: seconds."""

    def __init__(
        self,
        largest: int,
        state: SharedState | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.largest = largest
        self._state = state or LocalState()
        self.concurrency = 1
        self._sizes: dict[str, int] = {}
        #: Whether the last batch showed that batches can be at least twice as large.
        self._is_growing = False
        #: Seconds that a batch should take now.
        self._target_seconds = TARGET_SECONDS
        #: The most concurrent batches that are tried now.
        self._max_concurrency = MAX_CONCURRENT
        #: Whether the last increase of ``concurrency`` is on trial.
        self._is_on_trial = False
        #: How many probes were good since the last change.
        self._good_probes = 0
        #: Seconds that the fastest probe took.
        self._fastest_probe = float("inf")
        #: How many batches are in progress.
        self._in_progress = 0
        #: Threads that wait for their turn, in the order in which they came.
        self._waiting: list[object] = []
        self._clock = clock
        self._probed_at = clock()
        self._changed = threading.Condition()

    def size(self, kind: str) -> int:
        """How many items of that kind the next batch may have."""
        return self._sizes.get(kind, min(FIRST_SIZE, self.largest))

    @contextmanager
    def turn(self, kind: str, *, urgent: bool = False) -> Iterator[int]:
        """Waits until one more batch may be sent; yields how many items of that kind the batch may
        have. Send the batch within the block. urgent: don't wait, because a person waits for this
        batch."""
        # First this process's own limit of concurrent batches, then a slot that all workers share.
        with self._changed:
            if not urgent:
                self._wait()
            self._in_progress += 1
            size = self.size(kind)
            if self._is_on_trial:
                size = max(size // TRIAL_DIVISOR, SMALLEST_SIZE)
        slot = None
        try:
            if not urgent:
                slot = self._take_slot()
            yield size
        finally:
            if slot is not None:
                self._release_slot(slot)
            with self._changed:
                self._in_progress -= 1
                self._changed.notify_all()

    def _wait(self) -> None:
        """Waits until fewer batches than allowed are in progress and this thread is the first."""
        ticket = object()
        self._waiting.append(ticket)
        try:
            self._changed.wait_for(
                lambda: self._in_progress < self.concurrency and self._waiting[0] is ticket
            )
        finally:
            self._waiting.remove(ticket)
            self._changed.notify_all()

    def _take_slot(self) -> str:
        """Waits until one of the slots that workers share is free, and takes it."""
        while True:
            for number in range(self.concurrency):
                slot = f"batch:{number}"
                if self._state.claim(slot, SLOT_SECONDS):
                    return slot
            # Tells other workers that one waits, until shortly after its last attempt.
            self._state.increment(_WAITING_WORKER, 4 * SLOT_RETRY_SECONDS)
            time.sleep(SLOT_RETRY_SECONDS)

    def _release_slot(self, slot: str) -> None:
        self._state.clear(slot)
        if self._state.count(_WAITING_WORKER):
            time.sleep(2 * SLOT_RETRY_SECONDS)  # otherwise this worker would take the slot again

    def record_time(self, kind: str, items: int, seconds: float) -> None:
        """Call it after a batch was answered; adapts the size so that the next batch takes the
        intended time. The size only grows after a full batch: a small batch doesn't show how long
        larger batches take."""
        with self._changed:
            size = self.size(kind)
            ideal_size = int(items * self._target_seconds / max(seconds, 0.001))
            self._is_growing = items >= size and min(ideal_size, self.largest) >= size * 2
            if ideal_size < size:
                self._sizes[kind] = max(ideal_size, size // 2, SMALLEST_SIZE)
            elif items >= size:
                self._sizes[kind] = min(ideal_size, size * 2, self.largest)

    def record_failure(self, kind: str) -> None:
        """Call it after a batch timed out or failed: the next batches of this kind are smaller.
        Fewer batches are sent at the same time or, if only one is, later batches are shorter."""
        with self._changed:
            self._sizes[kind] = max(self.size(kind) // 2, SMALLEST_SIZE)
            self._reduce()

    def claim_probe(self) -> bool:
        """True if a probe is due, for one caller only, who should then send the probe. False while
        fewer batches than allowed are in progress or waiting: a probe would not show whether the
        allowed number is too high."""
        with self._changed:
            if self._in_progress + len(self._waiting) < self.concurrency:
                return False
            interval = TRIAL_INTERVAL_SECONDS if self._is_on_trial else PROBE_INTERVAL_SECONDS
            if self._clock() - self._probed_at < interval:
                return False
            self._probed_at = self._clock()
            return True

    def probe(self, ask: Callable[[], object]) -> None:
        """Sends a probe with ``ask()``, and adapts to the time that it takes."""
        time.sleep(PROBE_DELAY_SECONDS)
        started = self._clock()
        ask()
        self.record_probe(self._clock() - started)

    def record_probe(self, seconds: float) -> None:
        """Decides how many batches may be sent at the same time, and how long they should take.
        seconds: duration of the last probe."""
        with self._changed:
            self._fastest_probe = min(self._fastest_probe, seconds)
            patience = TRIAL_PATIENCE_SECONDS if self._is_on_trial else PATIENCE_SECONDS
            if seconds - self._fastest_probe > patience:
                self._reduce()
                return
            self._good_probes += 1
            if self._good_probes % PROBES_UNTIL_RETRY == 0:
                self._max_concurrency = min(self._max_concurrency + 1, MAX_CONCURRENT)
            if self._good_probes >= GOOD_PROBES:
                self._increase()

    def _increase(self) -> None:
        """Allows longer batches or, if they are long enough already, one more concurrent batch."""
        if self._is_on_trial:
            self._is_on_trial, self._good_probes = False, 0  # the trial has succeeded
        elif self._target_seconds < TARGET_SECONDS:
            self._target_seconds = min(self._target_seconds * 1.25, TARGET_SECONDS)
            self._good_probes = 0
        elif self.concurrency < self._max_concurrency and not self._is_growing:
            # While batches grow, they are too short for a probe to notice them.
            self.concurrency += 1
            self._is_on_trial, self._good_probes = True, 0
            self._changed.notify_all()

    def _reduce(self) -> None:
        """Allows one concurrent batch less or, if only one is allowed, only shorter batches."""
        self._is_on_trial, self._good_probes = False, 0
        if self.concurrency == 1:
            self._target_seconds = max(self._target_seconds / 2, SHORTEST_SECONDS)
            return  # one batch is the least
        self._max_concurrency = self.concurrency - 1
        self.concurrency = self._max_concurrency
