"""The size of batches and the number of concurrent batches depend on the time that batches take."""

import threading
import time
from contextlib import ExitStack

import pytest

from usher.client import pacing as pacing_module
from usher.client.pacing import (
    FIRST_SIZE,
    GOOD_PROBES,
    MOST_CONCURRENT,
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

KIND = "accounts"


def process_batches(pacing: Pacing, seconds_an_item: float, batches: int, kind: str = KIND) -> None:
    for _ in range(batches):
        with pacing.turn(kind) as size:
            pacing.record_time(kind, size, size * seconds_an_item)


def test_a_fast_lms_gets_large_batches_and_a_slow_lms_small_batches() -> None:
    fast, ordinary, slow = Pacing(500), Pacing(500), Pacing(500)

    assert fast.size(KIND) == FIRST_SIZE
    process_batches(fast, 0.0001, 10)
    process_batches(ordinary, TARGET_SECONDS / 80, 10)
    process_batches(slow, 1.0, 10)

    assert fast.size(KIND) == 500
    assert ordinary.size(KIND) == 80
    assert slow.size(KIND) == SMALLEST_SIZE


def test_the_size_of_batches_at_most_doubles_or_halves_after_a_batch() -> None:
    pacing = Pacing(500)
    pacing.record_time(KIND, 25, 0.001)
    assert pacing.size(KIND) == 50
    pacing.record_time(KIND, 50, 60.0)
    assert pacing.size(KIND) == 25


def test_a_batch_that_is_not_full_does_not_make_the_next_batches_larger() -> None:
    pacing = Pacing(500)
    pacing.record_time(KIND, 1, 0.001)
    assert pacing.size(KIND) == FIRST_SIZE


def test_each_kind_of_item_has_its_own_batch_size() -> None:
    pacing = Pacing(500)
    process_batches(pacing, 0.0001, 10)
    assert (pacing.size(KIND), pacing.size("enrollments")) == (500, FIRST_SIZE)


def probe_lms_with(workers: int, pacing: Pacing, probes: int) -> list[int]:
    """Probes an LMS with this number of workers. A probe is slow if every worker is busy with a
    batch. Returns the number of concurrent batches after each probe."""
    concurrencies = []
    for _ in range(probes):
        pacing.record_probe(1.0 if pacing.concurrency >= workers else 0.02)
        concurrencies.append(pacing.concurrency)
    return concurrencies


def test_the_number_of_concurrent_batches_leaves_one_worker_of_the_lms_free() -> None:
    for workers in (2, 3, 4):
        assert probe_lms_with(workers, Pacing(500), 60)[-1] == workers - 1
    assert probe_lms_with(16, Pacing(500), 60)[-1] == MOST_CONCURRENT


def test_a_number_of_concurrent_batches_that_was_too_high_is_seldom_tried_again() -> None:
    concurrencies = probe_lms_with(2, Pacing(500), 200)
    assert 2 in concurrencies
    assert concurrencies.count(2) <= 3


def test_a_batch_of_one_kind_waits_for_a_batch_of_another_kind() -> None:
    pacing = Pacing(500)
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
    pacing = Pacing(500)
    for _ in range(60):
        pacing.record_probe(PATIENCE_SECONDS * 3)
    assert pacing.concurrency == MOST_CONCURRENT


def test_the_number_of_concurrent_batches_stays_while_batches_grow() -> None:
    """Small batches end so soon that a probe can't see whether they keep all processes of the LMS
    busy."""
    pacing = Pacing(500)
    process_batches(pacing, 0.0001, 1)
    probe_lms_with(16, pacing, 60)
    assert pacing.concurrency == 1
    process_batches(pacing, 0.0001, 10)
    probe_lms_with(16, pacing, 60)
    assert pacing.concurrency == MOST_CONCURRENT


def test_batches_become_shorter_if_the_lms_has_a_single_worker() -> None:
    pacing = Pacing(500)
    pacing.record_probe(0.02)
    process_batches(pacing, 0.01, 9)
    assert pacing.size(KIND) == int(TARGET_SECONDS * 100)
    for _ in range(9):
        pacing.record_probe(0.02 + PATIENCE_SECONDS * 2)
    process_batches(pacing, 0.01, 9)
    assert (pacing.concurrency, pacing.size(KIND)) == (1, int(SHORTEST_SECONDS * 100))

    probe_lms_with(16, pacing, 9 * GOOD_PROBES)
    process_batches(pacing, 0.01, 9)
    assert (pacing.concurrency, pacing.size(KIND)) == (2, int(TARGET_SECONDS * 100))


def test_batches_are_smaller_and_fewer_after_a_failed_batch() -> None:
    pacing = Pacing(500)
    probe_lms_with(16, pacing, 9)
    before = pacing.concurrency
    pacing.record_failure(KIND)
    assert pacing.size(KIND) < FIRST_SIZE
    assert pacing.concurrency == before - 1


def test_a_probe_is_due_once_a_second_and_more_often_during_a_trial() -> None:
    now = [0.0]
    pacing = Pacing(500, clock=lambda: now[0])
    with pacing.turn(KIND), pacing.turn(KIND, urgent=True):
        assert not pacing.claim_probe()
        now[0] += PROBE_INTERVAL_SECONDS + 0.1
        assert [pacing.claim_probe() for _ in range(3)] == [True, False, False]
        probe_lms_with(16, pacing, GOOD_PROBES)
        assert pacing.concurrency == 2
        now[0] += TRIAL_INTERVAL_SECONDS + 0.1
        assert pacing.claim_probe()
        probe_lms_with(16, pacing, GOOD_PROBES)
        now[0] += TRIAL_INTERVAL_SECONDS + 0.1
        assert not pacing.claim_probe()


def test_batches_are_smaller_during_the_trial_of_one_more_concurrent_batch() -> None:
    pacing = Pacing(500)
    process_batches(pacing, 0.0001, 10)
    probe_lms_with(16, pacing, GOOD_PROBES)
    with pacing.turn(KIND) as size:
        assert size == 500 // TRIAL_DIVISOR
        pacing.record_time(KIND, size, size * 0.0001)
    probe_lms_with(16, pacing, GOOD_PROBES)
    with pacing.turn(KIND) as size:
        assert size == 500


def test_a_slightly_slow_probe_ends_the_trial() -> None:
    pacing = Pacing(500)
    probe_lms_with(16, pacing, GOOD_PROBES)
    pacing.record_probe(0.02 + TRIAL_PATIENCE_SECONDS + 0.01)
    assert pacing.concurrency == 1


def test_no_probe_is_due_while_fewer_batches_than_allowed_are_in_progress() -> None:
    now = [0.0]
    pacing = Pacing(500, clock=lambda: now[0])
    probe_lms_with(16, pacing, GOOD_PROBES)
    assert pacing.concurrency == 2
    with ExitStack() as batches:
        for is_due in (False, False, True):
            now[0] += 2
            assert pacing.claim_probe() is is_due
            batches.enter_context(pacing.turn(KIND, urgent=True))


@pytest.mark.parametrize("workers", [1, 2])
def test_only_one_batch_is_in_progress_if_one_is_allowed(workers: int) -> None:
    state = LocalState()
    paces = [Pacing(500, state) for _ in range(workers)]
    in_progress, most_in_progress = [0], [0]
    lock = threading.Lock()

    def work(pacing: Pacing) -> None:
        for _ in range(20):
            with pacing.turn(KIND):
                with lock:
                    in_progress[0] += 1
                    most_in_progress[0] = max(most_in_progress[0], in_progress[0])
                with lock:
                    in_progress[0] -= 1

    threads = [threading.Thread(target=work, args=[pacing]) for pacing in paces * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    assert most_in_progress == [1]


def test_a_worker_with_many_batches_lets_another_worker_send_batches_in_between() -> None:
    state, turns = LocalState(), []
    other_waits = threading.Event()

    def send_one_batch() -> None:
        other_waits.set()
        with Pacing(500, state).turn(KIND):
            turns.append("other")

    pacing = Pacing(500, state)
    thread = threading.Thread(target=send_one_batch)
    with pacing.turn(KIND):
        thread.start()
        assert other_waits.wait(60)
        time.sleep(2 * SLOT_RETRY_SECONDS)
    for _ in range(50):
        with pacing.turn(KIND):
            turns.append("first")
            time.sleep(0.001)
    thread.join(60)
    assert turns.index("other") < 5


def test_the_slot_of_a_killed_worker_becomes_free_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pacing_module, "SLOT_SECONDS", 0.2)
    state = LocalState()
    killed = Pacing(500, state).turn(KIND)
    killed.__enter__()  # a killed worker never leaves its turn
    with Pacing(500, state).turn(KIND) as size:
        assert size == FIRST_SIZE


def test_an_urgent_batch_does_not_wait_for_a_batch_in_progress():
    pacing = Pacing(500)
    with pacing.turn(KIND), pacing.turn(KIND, urgent=True) as size:
        assert size == pacing.size(KIND)
