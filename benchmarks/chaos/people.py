"""What the harness tells its process inside the application to do."""

from benchmarks.chaos.operations import begin, left, perform, sweep_twice
from benchmarks.chaos.verdict import judge

__all__ = ["begin", "judge", "left", "perform", "sweep_twice"]
