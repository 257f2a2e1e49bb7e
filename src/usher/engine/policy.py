"""Decides when a failed row is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from usher.contract.failures import FailureClass
from usher.engine.errors import KnownError

#: Seconds until the second attempt. The delay doubles with each further attempt, up to
#: LONGEST_DELAY.
FIRST_DELAY = 2.0
LONGEST_DELAY = 3600.0
#: The first EARLY_ATTEMPTS attempts are at most EARLY_DELAY seconds apart, because somebody may
#: wait for the row. This does not overload a system that is down: then no requests are sent, and no
#: attempts are counted.
EARLY_ATTEMPTS, EARLY_DELAY = 9, 15.0
#: Seconds until the second attempt after a systemic failure.
SYSTEMIC_DELAY = 30.0
#: Seconds until a row that waits, for example for another row, is checked, unless what it waits for
#: makes it due earlier.
WAITING_DELAY = 600.0


@dataclass(frozen=True)
class Retry:
    """delay: seconds until the next attempt; None for a refused row. is_counted: whether the
    failure counts as an attempt."""

    delay: float | None
    is_counted: bool


def retry_plan(error: KnownError, attempts: int) -> Retry:
    """The next attempt after this error. attempts: how many attempts failed before this one."""
    if error.failure_class is FailureClass.REJECTED:
        # Also if no request was sent, since none can succeed: the row would be tried every second.
        return Retry(None, is_counted=True)
    if not error.was_sent:
        # Again as soon as requests are sent, or soon if that time is not known.
        return Retry(_spread(error.retry_after or 1.0, 1.0, 2.0), is_counted=False)
    if error.failure_class is FailureClass.THROTTLED:
        # After a minute if the other system did not say when requests are allowed again. Never
        # earlier than it said.
        return Retry(_spread(error.retry_after or 60.0, 1.0, 1.3), is_counted=False)
    if error.failure_class is FailureClass.SYSTEMIC:
        return Retry(_exponential_delay(SYSTEMIC_DELAY, attempts), is_counted=True)
    delay = _exponential_delay(FIRST_DELAY, attempts)
    if attempts < EARLY_ATTEMPTS:
        delay = min(delay, _spread(EARLY_DELAY, 0.5, 1.0))
    return Retry(max(delay, error.retry_after or 0.0), is_counted=True)


def _exponential_delay(first: float, attempts: int) -> float:
    """``first``, doubled for each failed attempt, at most LONGEST_DELAY, with jitter."""
    return _spread(min(LONGEST_DELAY, first * 2 ** min(attempts, 20)), 0.5, 1.5)


def _spread(seconds: float, low: float, high: float) -> float:
    """``seconds`` times a random factor from ``low`` to ``high``, so that rows that failed together
    are not retried together."""
    return seconds * random.uniform(low, high)  # noqa: S311 - spreads load, no secret
