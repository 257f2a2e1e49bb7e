"""How long a person waits while a hundred thousand other rows are due and one worker runs."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.measures.sync import ENROLLMENTS_EACH
from benchmarks.processes import wait_for
from benchmarks.remote_module import RemoteModule
from benchmarks.setup import Setup

#: The longest that 99% of the people may wait.
TARGET_SECONDS = 3.0
#: People at a time; each signs up, waits for the token, enrolls and waits for the LMS.
_CONCURRENCY = 4
#: Kind of worker → the Python module and the arguments that start it.
_WORKERS = {
    "watch": ("manage", ("reconcile", "--watch")),
    "Celery": (
        "celery",
        ("-A", "campus.worker", "worker", "--concurrency", "1", "--loglevel", "INFO"),
    ),
}


@dataclass(frozen=True)
class WaitTimes:
    """Seconds that each person waited, for one API and kind of worker. unsettled: due rows of the
    backlog at the end; if it is 0, the last persons were measured without a backlog."""

    api: str
    worker: str
    sign_ups: list[float]
    enrollments: list[float]
    unsettled: int

    @property
    def p99(self) -> float:
        """The longer of the 99th percentiles of both waits."""
        return max(percentile(self.sign_ups, 99), percentile(self.enrollments, 99))


def percentile(values: list[float], hundredths: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[hundredths - 1]


def interactive(setup: Setup, backlog: int, people: int) -> list[WaitTimes]:
    """Measures each API with each kind of worker. backlog: number of due enrollments. people:
    number of persons for each measurement."""
    # Create the backlog.
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(ENROLLMENTS_EACH)]
    setup.ours.call("create_runs", keys=keys)
    setup.ours.call("delete_due_work")
    learners = setup.create_learners("backlog{}", count=backlog // ENROLLMENTS_EACH)
    setup.ours.call("create_enrollments", **learners, enrollments_each=ENROLLMENTS_EACH)

    # Measure.
    _, redis_url = setup.services.redis()
    waits = []
    for api in ("public", "batch"):
        setup.use_batch_api(api == "batch")
        for worker in _WORKERS:
            setup.ours.call("delete_due_work")
            setup.ours.call("make_due_again", username_prefix="backlog")
            with _worker(setup, worker, api, redis_url) as usher:
                waited = usher.call(
                    "sign_up_and_enroll",
                    username_pattern=f"{api}{worker.lower()}p{{}}",
                    count=people,
                    concurrency=_CONCURRENCY,
                )["answer"]
                unsettled = _count_unsettled(usher)
            waits.append(
                WaitTimes(
                    api=api,
                    worker=worker,
                    sign_ups=waited["sign_ups"],
                    enrollments=waited["enrollments"],
                    unsettled=unsettled,
                )
            )
    setup.ours.call("delete_due_work")
    return waits


@contextmanager
def _worker(setup: Setup, worker: str, api: str, redis_url: str) -> Iterator[RemoteModule]:
    """Starts a worker and waits until rows of the backlog are in sync. Yields Usher's functions, in
    a process with the same settings as the worker."""
    is_celery = worker == "Celery"
    env = setup.our_env | {"USHER_USE_BATCH_API": "true" if api == "batch" else "false"}
    if is_celery:
        env["REDIS_URL"] = redis_url
    module, arguments = _WORKERS[worker]
    with RemoteModule("benchmarks.ours", env) as usher:
        process = setup.services.module(f"{api}-{worker}", module, arguments, env)
        try:
            if is_celery:
                wait_for(lambda: " ready." in process.log, "the worker's start")
                usher.call("sweep")
            count_before = _count_unsettled(usher)
            wait_for(lambda: _count_unsettled(usher) < count_before, "the work on the backlog")
            yield usher
        finally:
            process.stop()


def _count_unsettled(usher: RemoteModule) -> int:
    """How many enrollments of the backlog are not in sync."""
    return int(usher.call("count_unsettled", username_prefix="backlog")["answer"])
