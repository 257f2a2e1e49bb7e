"""The rate of enrollments while Redis is suspended, compared with the rate without Redis."""

from __future__ import annotations

import signal

from benchmarks.contender import Contender
from benchmarks.measures.sync import EACH
from benchmarks.measuring import Figure
from benchmarks.services import control
from benchmarks.stage import Stage


def redis_stalled(stage: Stage, rounds: int, count: int) -> Figure:
    figure = Figure(
        "redis_stalled", "Redis suspended, compared with no Redis", "enrollments a second", 0.8
    )
    figure.more_is_better = True
    server, url = stage.services.redis()
    stage.use_batch_api(False)
    keys = [f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(EACH)]
    stage.ours.call("runs", keys=keys)
    stage.ours.call("delete_due_work")
    server.send(signal.SIGSTOP)
    try:
        with Contender("benchmarks.ours", stage.our_env | {"REDIS_URL": url}) as stalled:
            for number in range(rounds):
                for name, contender, rates in (
                    ("n", stage.ours, figure.reference),
                    ("s", stalled, figure.ours),
                ):
                    own = {"names": f"redis{name}{number}x{{}}", "first": 0, "end": count // EACH}
                    stage.ours.call("learners", **own)
                    stage.ours.call("accounts", **own)
                    control(stage.lms_url, "accounts", **own | {"name": own["names"]})
                    stage.ours.call("enrollments", **own, each=EACH)
                    cost = contender.call("enroll")
                    if cost["answer"]["changed"] < count:
                        raise RuntimeError(f"not all were enrolled: {str(cost)[:500]}")
                    rates.append(count / cost["seconds"])
    finally:
        server.send(signal.SIGCONT)
    return figure
