"""The functions that the harness calls in another process, which has the application's Django; see
``benchmarks.remote_module``."""

from benchmarks.chaos.operations import begin, count_unfinished, perform, retry_waiting, sweep_twice
from benchmarks.chaos.verdict import compare_with_lms

__all__ = [
    "begin",
    "compare_with_lms",
    "count_unfinished",
    "perform",
    "retry_waiting",
    "sweep_twice",
]
