"""The functions that the harness calls in its process with the application's Django."""

from benchmarks.chaos.operations import begin, left, perform, sweep_twice
from benchmarks.chaos.verdict import judge

__all__ = ["begin", "judge", "left", "perform", "sweep_twice"]
