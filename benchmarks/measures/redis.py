"""The rate of enrollments while Redis is suspended, compared with the rate without Redis."""

from __future__ import annotations

import signal

from benchmarks.measures.sync import ENROLLMENTS_EACH
from benchmarks.measuring import Figure
from benchmarks.remote_module import RemoteModule
from benchmarks.setup import Setup


def redis_stalled(setup: Setup, rounds: int, count: int) -> Figure:
    """Compares how fast enrollments are sent while Redis is suspended with the rate without Redis,
    which is the figure's reference. count: enrollments for each rate."""
    figure = Figure(
        "redis_stalled",
        "Redis suspended, compared with no Redis",
        "enrollments a second",
        target_ratio=0.8,
        more_is_better=True,
    )
    server, url = setup.services.redis()
    setup.use_batch_api(is_used=False)
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(ENROLLMENTS_EACH)]
    setup.ours.call("create_runs", keys=keys)
    setup.ours.call("delete_due_work")
    server.send_signal(signal.SIGSTOP)
    try:
        with RemoteModule(
            "benchmarks.ours", setup.our_env | {"REDIS_URL": url}
        ) as usher_with_redis:
            for number in range(rounds):
                # The letter, in the usernames, stands for no Redis or suspended Redis.
                for letter, usher, rates in (
                    ("n", setup.ours, figure.reference),
                    ("s", usher_with_redis, figure.ours),
                ):
                    learners = setup.create_learners(
                        f"redis{letter}{number}x{{}}", count=count // ENROLLMENTS_EACH
                    )
                    setup.ours.call(
                        "create_enrollments", **learners, enrollments_each=ENROLLMENTS_EACH
                    )
                    cost = usher.call("send_enrollments")
                    if cost["answer"]["changed"] < count:
                        raise RuntimeError(f"not all were enrolled: {str(cost)[:500]}")
                    rates.append(count / cost["seconds"])
    finally:
        server.send_signal(signal.SIGCONT)
    return figure
