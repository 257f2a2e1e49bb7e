"""Stops sending when the LMS is plainly down, and finds out with single probes when it is back."""

from __future__ import annotations

import random
import threading
from collections import deque

from usher.client.errors import HeldBack
from usher.client.shared import SharedState

_KEY = "circuit"
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
    """One for each LMS. The window is this process's own; that it is open is known to all."""

    def __init__(self, state: SharedState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._window: deque[bool] = deque(maxlen=_WINDOW)
        self._unconnected = 0
        self._why = ""

    def enter(self) -> None:
        """Before a request. Raises HeldBack while the circuit is open."""
        left = self._state.remaining(_KEY)
        if left <= 0 and (not self._state.level(_KEY) or self._state.claim(_KEY, _PROBE)):
            return
        wait = (left or 1.0) * random.uniform(1.0, 1.3)  # noqa: S311 - spreads load, no secret
        raise HeldBack(
            f"The LMS keeps failing, it is tried again in {wait:.0f} s. {self._why}".strip(),
            retry_after=wait,
        )

    def succeeded(self) -> None:
        """After an answer that shows the LMS at work, refusals included."""
        self._unconnected = 0
        self._window.append(True)
        if self._state.level(_KEY):
            self._state.clear(_KEY)

    def failed(self, why: str, *, connected: bool) -> None:
        """After no answer, or one that shows the LMS broken. why: for people."""
        self._why = why
        if self._state.remaining(_KEY) > 0:
            return  # it is open: these are requests that were already on their way
        with self._lock:
            self._window.append(False)
            self._unconnected = 0 if connected else self._unconnected + 1
            failures = self._window.count(False)
            is_down = self._unconnected >= _UNCONNECTED or (
                len(self._window) == _WINDOW and failures >= _WINDOW * _SHARE
            )
            if not is_down and not self._state.level(_KEY):
                return
            self._window.clear()
            self._unconnected = 0
        level = self._state.raise_level(_KEY, _KEPT)
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(level - 1, 10))
        self._state.clear(f"claim:{_KEY}")
        self._state.pause(_KEY, pause * random.uniform(0.8, 1.2))  # noqa: S311
