"""What one process has seen of the LMS while it worked: no request is made to find out."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

#: Requests whose durations are kept.
_KEPT = 100


@dataclass(frozen=True)
class Health:
    """answered_at, failed_at: seconds since the epoch, None for never. failure: the last one, for
    people. milliseconds: of the last requests. open_circuits: group of endpoints → seconds until
    it is tried again (0: a request tries it now). throttled: group → seconds until the LMS takes
    more."""

    answered_at: float | None = None
    failed_at: float | None = None
    failure: str = ""
    milliseconds: tuple[int, ...] = ()
    open_circuits: dict[str, float] = field(default_factory=dict)
    throttled: dict[str, float] = field(default_factory=dict)


class Seen:
    """Notes what became of requests; many threads write, and the last one may win."""

    def __init__(self) -> None:
        self.answered_at: float | None = None
        self.failed_at: float | None = None
        self.failure = ""
        self.milliseconds: deque[int] = deque(maxlen=_KEPT)

    def answered(self, seconds: float) -> None:
        """An answer that shows the LMS at work, refusals included."""
        self.answered_at = time.time()
        self.milliseconds.append(round(seconds * 1000))

    def failed(self, why: str) -> None:
        """No answer, or one that shows the LMS broken."""
        self.failed_at, self.failure = time.time(), why
