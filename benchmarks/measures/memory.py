"""The memory that a check of a million learners takes."""

from __future__ import annotations

from benchmarks.contender import Contender
from benchmarks.services import control
from benchmarks.setup import Setup

TARGET_MB = 250


def memory(setup: Setup, learners: int) -> tuple[float, dict[str, float]]:
    """The peak memory, in megabytes, of a process that checks every account; and a dict of the
    ``seconds`` that the check took, and ``before_mb``, the peak memory before it. Raises
    RuntimeError if some accounts were not checked."""
    setup.ours.call("create_many_accounts", name="m", count=learners)
    for first in range(0, learners, 50_000):
        end = min(learners, first + 50_000)
        control(setup.lms_url, "accounts", name="m{}", first=first, end=end)
    setup.use_batch_api(True)
    with Contender("benchmarks.ours", setup.our_env) as new_process:
        cost = new_process.call("sweep_all")
    answer = cost["answer"]
    if answer["failed"] or answer["changed"] + answer["unchanged"] < learners:
        raise RuntimeError(f"a sweep did not do its work: {str(answer)[:500]}")
    return answer["peak_mb"], {"seconds": cost["seconds"], "before_mb": answer["before_mb"]}
