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
    redis_server, redis_url = setup.services.redis()
    setup.use_batch_api(is_used=False)
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(ENROLLMENTS_EACH)]
    setup.ours.call("create_runs", keys=keys)
    setup.ours.call("delete_due_work")
    env_with_redis = setup.our_env | {"REDIS_URL": redis_url}
    redis_server.send_signal(signal.SIGSTOP)
    try:
        with RemoteModule("benchmarks.ours", env_with_redis) as usher_with_redis:
            for number in range(rounds):
                without_redis = _measure_rate(setup, setup.ours, f"redisn{number}x{{}}", count)
                figure.reference.append(without_redis)
                suspended = _measure_rate(setup, usher_with_redis, f"rediss{number}x{{}}", count)
                figure.ours.append(suspended)
    finally:
        redis_server.send_signal(signal.SIGCONT)
    return figure


def _measure_rate(setup: Setup, usher: RemoteModule, username_pattern: str, count: int) -> float:
    """Enrollments a second that ``usher`` sends, of new learners with these usernames. Raises
    RuntimeError if some were not sent."""
    learners = setup.create_learners(username_pattern, count=count // ENROLLMENTS_EACH)
    setup.ours.call("create_enrollments", **learners, enrollments_each=ENROLLMENTS_EACH)
    cost = usher.call("send_enrollments")
    if cost["answer"]["changed"] < count:
        raise RuntimeError(f"not all were enrolled: {str(cost)[:500]}")
    return float(count / cost["seconds"])
