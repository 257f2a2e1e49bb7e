"""The time of single operations of the engine, with few learners and with very many."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks import application
from benchmarks.contender import Contender
from benchmarks.setup import Setup

TARGET = 1.5
OPERATIONS = ("claim", "sweep", "webhook", "empty_pass")


@dataclass
class Flat:
    """milliseconds: operation → number of learners → median."""

    sizes: tuple[int, int]
    milliseconds: dict[str, dict[int, float]] = field(default_factory=dict)

    def ratio(self, operation: str) -> float:
        few, many = self.sizes
        return self.milliseconds[operation][many] / self.milliseconds[operation][few]


def flat(setup: Setup, few: int, many: int, rounds: int) -> Flat:
    """Creates a database with ``few`` and one with ``many`` learners, then measures both in
    turn."""
    result = Flat((few, many), {operation: {} for operation in OPERATIONS})
    env = {size: _database(setup, size) for size in (few, many)}
    with (
        Contender("benchmarks.ours", env[few]) as small,
        Contender("benchmarks.ours", env[many]) as large,
    ):
        for size, contender in ((few, small), (many, large)):
            contender.call("create_many_learners", name="f", count=size)
        for operation in OPERATIONS:
            measured: dict[int, list[float]] = {few: [], many: []}
            for _ in range(rounds):
                for size, contender in ((few, small), (many, large)):
                    measured[size] += contender.call("measure_operation", name=operation)["answer"]
            for size, seconds in measured.items():
                ordered = sorted(seconds)
                result.milliseconds[operation][size] = 1000 * ordered[len(ordered) // 2]
    return result


def _database(setup: Setup, size: int) -> dict[str, str]:
    """Environment variables of an application with its own database."""
    env = setup.our_env | {
        "DATABASE_URL": setup.postgresql.url(f"flat{size}"),
        "USHER_USE_BATCH_API": "false",
    }
    application.prepare(env, setup.lms_url)
    return env
