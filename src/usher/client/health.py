"""The health of the LMS as one process has observed it in its own requests; no request is sent for
this."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

#: The number of requests whose durations are kept.
_MAX_DURATIONS = 100


@dataclass(frozen=True)
class Health:
    """answered_at, failed_at: when a request last succeeded and failed, Unix seconds, None for
    never. failure: message of the last failure. milliseconds: durations of the last requests.
    open_circuits: group of endpoints → seconds until a request is allowed again (0: now).
    throttled: group → seconds until the LMS's rate limit ends."""

    answered_at: float | None = None
    failed_at: float | None = None
    failure: str = ""
    milliseconds: tuple[int, ...] = ()
    open_circuits: dict[str, float] = field(default_factory=dict)
    throttled: dict[str, float] = field(default_factory=dict)


class HealthRecorder:
    """Records the outcomes of requests. Threads write without a lock: the last one counts."""

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
