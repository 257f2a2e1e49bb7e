"""The size of batches and the number of concurrent batches depend on the time that batches take."""

import threading
import time
from contextlib import ExitStack

import pytest

from usher.client import pacing as pacing_module
from usher.client.pacing import (
    FIRST_SIZE,
    GOOD_PROBES,
    MAX_CONCURRENT,
    PATIENCE_SECONDS,
    PROBE_INTERVAL_SECONDS,
    SHORTEST_SECONDS,
    SLOT_RETRY_SECONDS,
    SMALLEST_SIZE,
    TARGET_SECONDS,
    TRIAL_DIVISOR,
    TRIAL_INTERVAL_SECONDS,
    TRIAL_PATIENCE_SECONDS,
    Pacing,
)
from usher.client.shared import LocalState

#: The kind of item in the batches of most tests.
KIND = "accounts"
#: The most items in a request.
LARGEST_SIZE = 500
#: Seconds that a fast LMS needs for an item of a batch.
FAST = 0.0001
#: Seconds that a probe takes while a process of the LMS is free.
FAST_PROBE = 0.02
#: More processes than batches are ever sent at the same time.
MANY_PROCESSES = 16
#: Enough batches or probes for the pacing to become stable.
MANY_BATCHES, MANY_PROBES = 10, 60


class Clock:
    """A clock for ``Pacing`` that only the test advances. seconds: the time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def send_batches(
    pacing: Pacing, *, seconds_an_item: float, batches: int = MANY_BATCHES, kind: str = KIND
) -> None:
    """Sends full batches, one after the other, to an LMS that needs this time for each item."""
    for _ in range(batches):
        with pacing.turn(kind) as size:
            pacing.record_time(kind, size, size * seconds_an_item)


def probe_lms(
    pacing: Pacing, *, processes: int = MANY_PROCESSES, probes: int = MANY_PROBES
) -> list[int]:
    """Probes an LMS with this number of processes. A probe is slow if every process is busy with a
    batch. Returns the number of concurrent batches that are allowed after each probe."""
    concurrencies = []
    for _ in range(probes):
        is_lms_busy = pacing.concurrency >= processes
        pacing.record_probe(1.0 if is_lms_busy else FAST_PROBE)
        concurrencies.append(pacing.concurrency)
    return concurrencies


def test_a_fast_lms_gets_large_batches_and_a_slow_lms_small_batches() -> None:
    fast, ordinary, slow = (Pacing(LARGEST_SIZE) for _ in range(3))

    assert fast.size(KIND) == FIRST_SIZE
    send_batches(fast, seconds_an_item=FAST)
    send_batches(ordinary, seconds_an_item=TARGET_SECONDS / 80)
    send_batches(slow, seconds_an_item=1.0)

    assert fast.size(KIND) == LARGEST_SIZE
    assert ordinary.size(KIND) == 80
    assert slow.size(KIND) == SMALLEST_SIZE


def test_the_size_of_batches_at_most_doubles_or_halves_after_a_batch() -> None:
    pacing = Pacing(LARGEST_SIZE)
    pacing.record_time(KIND, items=25, seconds=0.001)
    assert pacing.size(KIND) == 50
    pacing.record_time(KIND, items=50, seconds=60.0)
    assert pacing.size(KIND) == 25


def test_a_batch_that_is_not_full_does_not_make_the_next_batches_larger() -> None:
    pacing = Pacing(LARGEST_SIZE)
    pacing.record_time(KIND, items=1, seconds=0.001)
    assert pacing.size(KIND) == FIRST_SIZE


def test_each_kind_of_item_has_its_own_batch_size() -> None:
    pacing = Pacing(LARGEST_SIZE)
    send_batches(pacing, seconds_an_item=FAST)
    assert pacing.size(KIND) == LARGEST_SIZE
    assert pacing.size("enrollments") == FIRST_SIZE


def test_the_number_of_concurrent_batches_leaves_one_process_of_the_lms_free() -> None:
    for processes in (2, 3, 4):
        pacing = Pacing(LARGEST_SIZE)
        probe_lms(pacing, processes=processes)
        assert pacing.concurrency == processes - 1
    pacing = Pacing(LARGEST_SIZE)
    probe_lms(pacing, processes=MANY_PROCESSES)
    assert pacing.concurrency == MAX_CONCURRENT


def test_a_number_of_concurrent_batches_that_was_too_high_is_seldom_tried_again() -> None:
    concurrencies = probe_lms(Pacing(LARGEST_SIZE), processes=2, probes=200)
    assert 2 in concurrencies
    assert concurrencies.count(2) <= 3


def test_a_batch_of_one_kind_waits_for_a_batch_of_another_kind() -> None:
    pacing = Pacing(LARGEST_SIZE)
    other_has_begun = threading.Event()

    def send_enrollments() -> None:
        with pacing.turn("enrollments"):
            other_has_begun.set()

    with pacing.turn(KIND):
        thread = threading.Thread(target=send_enrollments, daemon=True)
        thread.start()
        assert not other_has_begun.wait(0.2)
    assert other_has_begun.wait(60)
    thread.join(60)


def test_an_lms_that_is_always_slow_to_answer_probes_does_not_count_as_busy() -> None:
    pacing = Pacing(LARGEST_SIZE)
    for _ in range(MANY_PROBES):
        pacing.record_probe(PATIENCE_SECONDS * 3)
    assert pacing.concurrency == MAX_CONCURRENT


def test_the_number_of_concurrent_batches_stays_while_batches_grow() -> None:
    """Small batches end so soon that a probe can't see whether they keep all processes of the LMS
    busy."""
    pacing = Pacing(LARGEST_SIZE)
    send_batches(pacing, seconds_an_item=FAST, batches=1)
    probe_lms(pacing)
    assert pacing.concurrency == 1
    send_batches(pacing, seconds_an_item=FAST)
    probe_lms(pacing)
    assert pacing.concurrency == MAX_CONCURRENT


def test_batches_become_shorter_if_the_lms_has_a_single_process() -> None:
    pacing = Pacing(LARGEST_SIZE)
    items_a_second = 100

    def size_after_batches() -> int:
        send_batches(pacing, seconds_an_item=1 / items_a_second)
        return pacing.size(KIND)

    pacing.record_probe(FAST_PROBE)
    assert size_after_batches() == int(TARGET_SECONDS * items_a_second)
    # Slow probes, even with one batch at a time: the intended time is halved down to its least.
    for _ in range(9):
        pacing.record_probe(FAST_PROBE + PATIENCE_SECONDS * 2)
    assert size_after_batches() == int(SHORTEST_SECONDS * items_a_second)
    assert pacing.concurrency == 1

    # Once probes are fast again, batches become longer, and then more of them are allowed.
    probe_lms(pacing, probes=9 * GOOD_PROBES)
    assert size_after_batches() == int(TARGET_SECONDS * items_a_second)
    assert pacing.concurrency == 2


def test_batches_are_smaller_and_fewer_after_a_failed_batch() -> None:
    pacing = Pacing(LARGEST_SIZE)
    probe_lms(pacing, probes=3 * GOOD_PROBES)
    concurrency_before = pacing.concurrency
    pacing.record_failure(KIND)
    assert pacing.size(KIND) < FIRST_SIZE
    assert pacing.concurrency == concurrency_before - 1


def test_a_probe_is_due_once_a_second_and_more_often_during_a_trial() -> None:
    clock = Clock()
    pacing = Pacing(LARGEST_SIZE, clock=clock)
    # Two batches, because no probe is due while fewer batches than allowed are in progress.
    with pacing.turn(KIND), pacing.turn(KIND, urgent=True):
        assert not pacing.claim_probe()  # no second has passed yet
        clock.seconds += PROBE_INTERVAL_SECONDS + 0.1
        assert [pacing.claim_probe() for _ in range(3)] == [True, False, False], "one is enough"
        probe_lms(pacing, probes=GOOD_PROBES)
        assert pacing.concurrency == 2, "the second concurrent batch is on trial"
        clock.seconds += TRIAL_INTERVAL_SECONDS + 0.1
        assert pacing.claim_probe()
        probe_lms(pacing, probes=GOOD_PROBES)
        clock.seconds += TRIAL_INTERVAL_SECONDS + 0.1
        assert not pacing.claim_probe(), "the trial is over"


def test_batches_are_smaller_during_the_trial_of_one_more_concurrent_batch() -> None:
    pacing = Pacing(LARGEST_SIZE)
    send_batches(pacing, seconds_an_item=FAST)
    probe_lms(pacing, probes=GOOD_PROBES)  # the trial begins
    with pacing.turn(KIND) as size:
        assert size == LARGEST_SIZE // TRIAL_DIVISOR
        pacing.record_time(KIND, size, size * FAST)
    probe_lms(pacing, probes=GOOD_PROBES)  # the trial ends
    with pacing.turn(KIND) as size:
        assert size == LARGEST_SIZE


def test_a_slightly_slow_probe_ends_the_trial() -> None:
    pacing = Pacing(LARGEST_SIZE)
    probe_lms(pacing, probes=GOOD_PROBES)
    assert pacing.concurrency == 2
    pacing.record_probe(FAST_PROBE + TRIAL_PATIENCE_SECONDS + 0.01)
    assert pacing.concurrency == 1


def test_no_probe_is_due_while_fewer_batches_than_allowed_are_in_progress() -> None:
    clock = Clock()
    pacing = Pacing(LARGEST_SIZE, clock=clock)
    probe_lms(pacing, probes=GOOD_PROBES)
    assert pacing.concurrency == 2
    with ExitStack() as batches:
        for batches_in_progress in (0, 1, 2):
            clock.seconds += 2 * PROBE_INTERVAL_SECONDS
            assert pacing.claim_probe() is (batches_in_progress == 2)
            batches.enter_context(pacing.turn(KIND, urgent=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_only_one_batch_is_in_progress_if_one_is_allowed(workers: int) -> None:
    """Each worker sends batches from three threads; the workers share a state."""
    state = LocalState()
    pacings = [Pacing(LARGEST_SIZE, state) for _ in range(workers)]
    batch_in_progress_lock = threading.Lock()
    has_overlap = threading.Event()

    def send_20_batches(pacing: Pacing) -> None:
        for _ in range(20):
            with pacing.turn(KIND):
                if not batch_in_progress_lock.acquire(blocking=False):
                    has_overlap.set()
                    return
                batch_in_progress_lock.release()

    threads = [threading.Thread(target=send_20_batches, args=[pacing]) for pacing in pacings * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    assert not has_overlap.is_set()


def test_a_worker_with_many_batches_lets_another_worker_send_batches_in_between() -> None:
    state = LocalState()
    senders = []
    other_is_ready = threading.Event()

    def send_one_batch() -> None:
        other_is_ready.set()
        with Pacing(LARGEST_SIZE, state).turn(KIND):
            senders.append("other")

    pacing = Pacing(LARGEST_SIZE, state)
    thread = threading.Thread(target=send_one_batch)
    with pacing.turn(KIND):
        thread.start()
        assert other_is_ready.wait(60)
        time.sleep(2 * SLOT_RETRY_SECONDS)  # until the other worker has tried to take the slot
    for _ in range(50):
        with pacing.turn(KIND):
            senders.append("first")
            time.sleep(0.001)
    thread.join(60)
    # The other worker's turn came soon, and not after all fifty batches of the first worker.
    assert senders.index("other") < 5


def test_the_slot_of_a_killed_worker_becomes_free_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacing_module, "SLOT_SECONDS", 0.2)
    state = LocalState()
    turn_of_killed_worker = Pacing(LARGEST_SIZE, state).turn(KIND)
    turn_of_killed_worker.__enter__()  # a killed worker never leaves its turn
    with Pacing(LARGEST_SIZE, state).turn(KIND) as size:  # waits until the slot is free
        assert size == FIRST_SIZE


def test_an_urgent_batch_does_not_wait_for_a_batch_in_progress():
    pacing = Pacing(LARGEST_SIZE)
    with pacing.turn(KIND), pacing.turn(KIND, urgent=True) as size:
        assert size == pacing.size(KIND)
