"""The health of the LMS, as one process has observed it in the requests that it sent anyway."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

#: The number of requests whose durations are kept.
_MAX_DURATIONS = 100


@dataclass(frozen=True)
class Health:
    """The health of the LMS at one moment."""

    #: When a request last succeeded, Unix seconds; None for never.
    answered_at: float | None = None
    #: When a request last failed, Unix seconds; None for never.
    failed_at: float | None = None
    #: The message of the last failure.
    failure: str = ""
    #: Durations of the last requests.
    milliseconds: tuple[int, ...] = ()
    #: Group of endpoints with an open circuit breaker → seconds until a request is allowed again.
    open_circuits: dict[str, float] = field(default_factory=dict)
    #: Group of endpoints → seconds until the LMS's rate limit ends.
    throttled: dict[str, float] = field(default_factory=dict)


class HealthRecorder:
    """Records the outcomes of requests. Threads write without a lock: the last value counts."""

    def __init__(self) -> None:
        self.answered_at: float | None = None
        self.failed_at: float | None = None
        self.failure = ""
        self.milliseconds: deque[int] = deque(maxlen=_MAX_DURATIONS)

    def record_answer(self, seconds: float) -> None:
        """Records an answer that shows that the LMS works, refusals included. seconds: its
        duration."""
        self.answered_at = time.time()
        self.milliseconds.append(round(seconds * 1000))

    def record_failure(self, message: str) -> None:
        """Records a failure: no answer, or an answer that shows a broken LMS. message: for
        people."""
        self.failed_at, self.failure = time.time(), message
