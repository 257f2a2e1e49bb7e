"""How much faster four Celery workers are than one if the LMS is the slow part."""

from __future__ import annotations

from typing import Any

from benchmarks.lms.routes import DEFAULT_DELAY
from benchmarks.measures.sync import ENROLLMENTS_EACH
from benchmarks.measuring import Figure
from benchmarks.processes import wait_for
from benchmarks.services import control
from benchmarks.setup import Setup

#: Arguments of ``celery``.
WORKER = ("-A", "campus.worker", "worker", "--concurrency", "1", "--loglevel", "INFO")
#: Concurrent requests of each worker.
_CONCURRENCY = 16
#: Seconds that the LMS needs for one request.
_LMS_SECONDS = 0.2


def celery(setup: Setup, rounds: int, count: int) -> list[Figure]:
    """Compares the rates of one worker and of four. count: enrollments for each rate."""
    figure = Figure(
        "celery_4_over_1",
        "Four Celery workers over one",
        "enrollments a second",
        target_ratio=3.5,
        more_is_better=True,
    )
    _, redis_url = setup.services.redis()
    setup.use_batch_api(is_used=False)
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(ENROLLMENTS_EACH)]
    setup.ours.call("create_runs", keys=keys)
    setup.ours.call("delete_due_work")
    control(setup.lms_url, "delay", seconds=_LMS_SECONDS)
    for number in range(rounds):
        for workers, rates in ((1, figure.reference), (4, figure.ours)):
            learners = setup.create_learners(
                f"w{number}x{workers}x{{}}", count=count // ENROLLMENTS_EACH
            )
            seconds = _measure_seconds(setup, redis_url, workers, number, learners)
            rates.append(count / seconds)
    control(setup.lms_url, "delay", seconds=DEFAULT_DELAY)
    return [figure]


def _measure_seconds(
    setup: Setup, redis_url: str, workers: int, number: int, learners: dict[str, Any]
) -> float:
    """The seconds in which ``workers`` new workers send the enrollments of these learners. number:
    the number of the round."""
    env = setup.our_env | {
        "REDIS_URL": redis_url,
        "USHER_CONCURRENCY": str(_CONCURRENCY),
        "USHER_USE_BATCH_API": "false",
    }
    running_workers = []
    for index in range(workers):
        name = f"worker-{number}-{workers}-{index}"
        arguments = [*WORKER, "-n", f"w{index}@bench"]
        running_workers.append(setup.services.module(name, "celery", arguments, env))
    wait_for(
        lambda: all(" ready." in worker.log for worker in running_workers), "the workers' start"
    )
    setup.ours.call("create_enrollments", **learners, enrollments_each=ENROLLMENTS_EACH)
    # Several messages for each worker, so that none is idle because another took its message.
    cost = setup.ours.call("process_with_celery", redis_url=redis_url, messages=4 * workers)
    for worker in running_workers:
        worker.stop()
    return float(cost["seconds"])
