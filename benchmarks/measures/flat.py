"""The time of single operations of the engine, with few learners and with very many."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from benchmarks import application
from benchmarks.remote_module import RemoteModule
from benchmarks.setup import Setup

#: With many learners, an operation may take this many times as long as with few.
HIGHEST_RATIO = 1.5
#: Names of the operations that ``benchmarks.ours.measure_operation`` measures.
OPERATIONS = ("claim", "sweep", "webhook", "empty_pass")


@dataclass
class OperationTimes:
    """sizes: the two numbers of learners, the smaller first. milliseconds: operation → number of
    learners → median."""

    sizes: tuple[int, int]
    milliseconds: dict[str, dict[int, float]] = field(default_factory=dict)

    def ratio(self, operation: str) -> float:
        few, many = self.sizes
        return self.milliseconds[operation][many] / self.milliseconds[operation][few]


def flat(setup: Setup, few: int, many: int, rounds: int) -> OperationTimes:
    """Creates a database with ``few`` and one with ``many`` learners, then measures both in
    turn."""
    result = OperationTimes((few, many), {operation: {} for operation in OPERATIONS})
    env = {size: _prepare_application(setup, size) for size in (few, many)}
    with (
        RemoteModule("benchmarks.ours", env[few]) as small,
        RemoteModule("benchmarks.ours", env[many]) as large,
    ):
        for size, usher in ((few, small), (many, large)):
            usher.call("create_many_learners", username_prefix="f", count=size)
        for operation in OPERATIONS:
            measured: dict[int, list[float]] = {few: [], many: []}
            for _ in range(rounds):
                for size, usher in ((few, small), (many, large)):
                    measured[size] += usher.call("measure_operation", name=operation)["answer"]
            for size, seconds in measured.items():
                result.milliseconds[operation][size] = 1000 * statistics.median_high(seconds)
    return result


def _prepare_application(setup: Setup, size: int) -> dict[str, str]:
    """Creates a database for ``size`` learners, with tables but no learners yet. Returns the
    environment variables of an application that uses this database."""
    env = setup.our_env | {
        "DATABASE_URL": setup.postgresql.url(f"flat{size}"),
        "USHER_USE_BATCH_API": "false",
    }
    application.prepare(env, setup.lms_url)
    return env
