"""When a row that failed is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from usher.contract.failures import FailureClass
from usher.engine.errors import KnownError

#: Seconds.
FIRST_DELAY = 2.0
LONGEST_DELAY = 3600.0
#: Somebody waits for the first attempts, and a system that answers some requests may answer the
#: next; when it answers none nothing is sent to it, and nothing is counted.
EARLY_ATTEMPTS, EARLY_DELAY = 9, 15.0
SYSTEMIC_DELAY = 30.0
#: A row that waits for another row is looked at that often, if nobody wakes it before.
WAITING_DELAY = 600.0


@dataclass(frozen=True)
class Retry:
    """delay: seconds, None for parked. counts: whether this was an attempt at the row itself."""

    delay: float | None
    counts: bool


def retry(error: KnownError, attempts: int) -> Retry:
    """attempts: those that failed before this one."""
    if not error.was_sent:
        return Retry(_spread(error.retry_after or 1.0, 1.0, 2.0), counts=False)
    if error.failure_class is FailureClass.REJECTED:
        return Retry(None, counts=True)
    if error.failure_class is FailureClass.THROTTLED:
        return Retry(_spread(error.retry_after or 60.0, 1.0, 1.3), counts=False)
    if error.failure_class is FailureClass.SYSTEMIC:
        return Retry(_doubled(SYSTEMIC_DELAY, attempts), counts=True)
    delay = _doubled(FIRST_DELAY, attempts)
    if attempts < EARLY_ATTEMPTS:
        delay = min(delay, _spread(EARLY_DELAY, 0.5, 1.0))
    return Retry(max(delay, error.retry_after or 0.0), counts=True)


def _doubled(first: float, attempts: int) -> float:
    return _spread(min(LONGEST_DELAY, first * 2 ** min(attempts, 20)), 0.5, 1.5)


def _spread(seconds: float, low: float, high: float) -> float:
    """Jitter: rows that failed together must not come back together."""
    return seconds * random.uniform(low, high)  # noqa: S311 - spreads load, no secret
