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
        """How many times as long the operation takes with many learners."""
        few, many = self.sizes
        return self.milliseconds[operation][many] / self.milliseconds[operation][few]


def flat(setup: Setup, few: int, many: int, rounds: int) -> OperationTimes:
    """Creates a database with ``few`` and one with ``many`` learners, then measures both in
    turn."""
    result = OperationTimes((few, many))
    env_of_small = _prepare_application(setup, few)
    env_of_large = _prepare_application(setup, many)
    with (
        RemoteModule("benchmarks.ours", env_of_small) as small,
        RemoteModule("benchmarks.ours", env_of_large) as large,
    ):
        small.call("create_many_learners", username_prefix="f", count=few)
        large.call("create_many_learners", username_prefix="f", count=many)
        for operation in OPERATIONS:
            seconds_of_small: list[float] = []
            seconds_of_large: list[float] = []
            for _ in range(rounds):
                seconds_of_small += small.call("measure_operation", name=operation)["answer"]
                seconds_of_large += large.call("measure_operation", name=operation)["answer"]
            result.milliseconds[operation] = {
                few: 1000 * statistics.median_high(seconds_of_small),
                many: 1000 * statistics.median_high(seconds_of_large),
            }
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
