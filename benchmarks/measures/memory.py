"""The memory that a check of a million learners takes."""

from __future__ import annotations

from benchmarks.remote_module import RemoteModule
from benchmarks.services import control
from benchmarks.setup import Setup

#: The peak memory must stay below this.
TARGET_MB = 250
#: Accounts that the benchmark LMS creates in one control request.
_ACCOUNTS_A_REQUEST = 50_000


def memory(setup: Setup, learners: int) -> tuple[float, float]:
    """Returns two numbers: the peak memory, in megabytes, of a process that checks every account,
    and the seconds of the check. Raises RuntimeError if some accounts were not checked."""
    setup.ours.call("create_many_accounts", username_prefix="m", count=learners)
    for first in range(0, learners, _ACCOUNTS_A_REQUEST):
        end = min(learners, first + _ACCOUNTS_A_REQUEST)
        control(setup.lms_url, "accounts", username_pattern="m{}", first=first, end=end)
    setup.use_batch_api(is_used=True)
    with RemoteModule("benchmarks.ours", setup.our_env) as new_usher:
        cost = new_usher.call("recheck_all")
    answer = cost["answer"]
    checked = answer["changed"] + answer["unchanged"]
    if answer["failed"] or checked < learners:
        raise RuntimeError(f"the check did not do its work: {str(answer)[:500]}")
    return answer["peak_mb"], cost["seconds"]
