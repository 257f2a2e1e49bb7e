"""Circuit breakers: stop sending while the LMS is down, and probe until it is back.

One for each group of endpoints, since a platform can fail at one and serve the others; and one for
the host, which counts only that no connection was made.
"""

from __future__ import annotations

import random
import threading
from collections import deque

from usher.client.errors import HeldBack
from usher.client.shared import SharedState

#: The last outcomes looked at, and the share of failures that opens the circuit.
_WINDOW = 20
_SHARE = 0.9
#: Failures to connect in a row that open it.
_UNCONNECTED = 5
#: Seconds: the first pause, the longest, how long a probe may take, how long levels are kept.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_PROBE = 20.0
_KEPT = 600.0


class Circuit:
    """One group's. The window is this process's own; that it is open is known to all."""

    def __init__(self, state: SharedState, group: str) -> None:
        self._state = state
        self._key = f"circuit:{group}"
        self._lock = threading.Lock()
        #: What a failure was about, '' for a success.
        self._window: deque[str] = deque(maxlen=_WINDOW)
        self._unconnected = 0
        self._why = ""

    @property
    def held_seconds(self) -> float:
        return self._state.remaining(self._key)

    @property
    def is_open(self) -> bool:
        """Since a failure, whether or not a probe is allowed by now."""
        return bool(self._state.level(self._key))

    def enter(self) -> None:
        """Before a request. Raises HeldBack while the circuit is open."""
        left = self.held_seconds
        if left <= 0 and (not self._state.level(self._key) or self._state.claim(self._key, _PROBE)):
            return
        self.hold_back(left)

    def hold_back(self, left: float) -> None:
        wait = (left or 1.0) * random.uniform(1.0, 1.3)  # noqa: S311 - spreads load, no secret
        raise HeldBack(
            f"The LMS keeps failing; next try in {wait:.0f} s. {self._why}".strip(),
            retry_after=wait,
        )

    def succeeded(self) -> None:
        """After an answer that shows the LMS at work, refusals included."""
        self._unconnected = 0
        self._window.append("")
        if self._state.level(self._key):
            self._state.clear(self._key)

    def failed(self, why: str, *, subject: str, connected: bool) -> None:
        """After no answer, or one that shows the LMS broken.

        why: for people. subject: what the request was about; a run or learner that fails alone
        counts once, however often it fails.
        """
        self._why = why
        if self.held_seconds > 0:
            return  # it is open: these are requests that were already on their way
        with self._lock:
            if subject not in self._window:
                self._window.append(subject)
            self._unconnected = 0 if connected else self._unconnected + 1
            failures = len(self._window) - self._window.count("")
            is_down = self._unconnected >= _UNCONNECTED or (
                len(self._window) == _WINDOW and failures >= _WINDOW * _SHARE
            )
            if not is_down and not self._state.level(self._key):
                return
            self._window.clear()
            self._unconnected = 0
        level = self._state.raise_level(self._key, _KEPT)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(level - 1, 10))
        self._state.clear(f"claim:{self._key}")
        self._state.pause(self._key, pause * random.uniform(0.8, 1.2))  # noqa: S311
