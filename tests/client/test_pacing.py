"""The size and number of concurrent batches depend on how long they take."""

import threading

from usher.client.pacing import FIRST_SIZE, MOST_AT_ONCE, PATIENCE, SMALLEST_SIZE, Pacing


def served(pacing: Pacing, seconds_an_item: float, batches: int) -> None:
    for _ in range(batches):
        with pacing.turn() as size:
            pacing.took(size, size * seconds_an_item)


def test_a_fast_lms_gets_large_batches_and_a_slow_one_small_ones() -> None:
    fast, usual, slow = Pacing(500), Pacing(500), Pacing(500)

    assert fast.size == FIRST_SIZE
    served(fast, 0.0001, 10)
    served(usual, 0.0125, 10)
    served(slow, 1.0, 10)

    assert fast.size == 500
    assert usual.size == 80
    assert slow.size == SMALLEST_SIZE


def test_a_size_is_approached_not_jumped_to() -> None:
    pacing = Pacing(500)
    pacing.took(25, 0.001)
    assert pacing.size == 50
    pacing.took(50, 60.0)
    assert pacing.size == 25


def test_the_rest_of_a_queue_does_not_make_batches_larger() -> None:
    pacing = Pacing(500)
    pacing.took(1, 0.001)
    assert pacing.size == FIRST_SIZE


def lms_with(workers: int, pacing: Pacing, probes: int) -> list[int]:
    """Probes wait for a batch as soon as all workers have one."""
    seen = []
    for _ in range(probes):
        pacing.probed(1.0 if pacing.at_once >= workers else 0.02)
        seen.append(pacing.at_once)
    return seen


def test_one_process_of_the_lms_stays_free() -> None:
    for workers in (2, 3, 4):
        assert lms_with(workers, Pacing(500), 60)[-1] == workers - 1
    assert lms_with(16, Pacing(500), 60)[-1] == MOST_AT_ONCE


def test_a_number_of_requests_that_was_too_high_is_seldom_tried_again() -> None:
    seen = lms_with(2, Pacing(500), 200)
    assert 2 in seen
    assert seen.count(2) <= 3


def test_with_a_single_worker_batches_become_smaller_instead() -> None:
    pacing = Pacing(500)
    served(pacing, 0.01, 5)
    before = pacing.size
    pacing.probed(PATIENCE * 2)
    assert (pacing.at_once, pacing.size) == (1, before // 2)


def test_a_failed_batch_makes_the_next_ones_smaller_and_fewer() -> None:
    pacing = Pacing(500)
    lms_with(16, pacing, 9)
    before = pacing.at_once
    pacing.failed()
    assert pacing.size < FIRST_SIZE
    assert pacing.at_once == before - 1


def test_a_probe_is_due_once_a_second() -> None:
    now = [0.0]
    pacing = Pacing(500, clock=lambda: now[0])
    assert not pacing.probe_is_due()
    now[0] = 1.5
    assert [pacing.probe_is_due() for _ in range(3)] == [True, False, False]


def test_turns_are_waited_for() -> None:
    pacing = Pacing(500)
    inside, most = [0], [0]
    lock = threading.Lock()

    def work() -> None:
        for _ in range(20):
            with pacing.turn():
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                with lock:
                    inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [1]


def test_a_batch_that_somebody_waits_for_does_not_wait_itself():
    pacing = Pacing(500)
    with pacing.turn(), pacing.turn(at_once=True) as size:
        assert size == pacing.size
