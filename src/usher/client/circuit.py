"""Circuit breakers: stop sending requests while the LMS is down, and probe until it is back.

Each group of endpoints has a circuit breaker, because a platform can fail at one group and serve
the others. One more circuit breaker, for the host, counts only failures to connect.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from typing import NoReturn

from usher.client.errors import CircuitOpen
from usher.client.shared import SharedState

_SUCCESS = ""
#: How many of the last outcomes count.
_WINDOW = 20
#: The share of failures among these outcomes that opens the circuit.
_FAILURE_SHARE = 0.9
#: This many failures to connect in a row open the circuit, too.
_MAX_CONNECTION_FAILURES = 5
_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 30.0
#: Seconds that a probe may take before the next probe is allowed.
_PROBE_SECONDS = 20.0
#: Seconds after which the count of pauses begins again.
_MEMORY_SECONDS = 600.0


class Circuit:
    """The circuit breaker of one group. Outcomes are counted in this process; all workers share,
    through ``state``, whether the circuit is open."""

    def __init__(self, state: SharedState, group: str) -> None:
        self._state = state
        self._key = f"circuit:{group}"
        self._lock = threading.Lock()
        #: The last outcomes: the subject of each failure, or ``_SUCCESS``.
        self._outcomes: deque[str] = deque(maxlen=_WINDOW)
        #: How many requests in a row made no connection.
        self._connection_failures = 0
        #: The message of the last failure.
        self._reason = ""

    @property
    def seconds_until_allowed(self) -> float:
        """Seconds until the next request is allowed; 0 if one is allowed now."""
        return self._state.remaining(self._key)

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open. An open circuit stays open until a request succeeds, even
        while a probe is allowed."""
        return bool(self._state.count(self._key))

    def enter(self) -> None:
        """Call it before each request. Raises CircuitOpen while the circuit is open, except for the
        one request that is the probe."""
        seconds = self.seconds_until_allowed
        if seconds > 0:
            self.refuse(seconds)
        if not self.is_open:
            return
        is_probe = self._state.claim(self._key, _PROBE_SECONDS)
        if not is_probe:
            self.refuse(0)

    def refuse(self, seconds: float) -> NoReturn:
        """Raises CircuitOpen. seconds: until the next request is allowed; the message does not name
        them, because records show the message for minutes."""
        # 0 seconds: another request is the probe now.
        wait = (seconds or 1.0) * random.uniform(1.0, 1.3)  # noqa: S311 - spreads load, no secret
        raise CircuitOpen(
            f"Not sent, because requests to the LMS failed. {self._reason}".strip(),
            retry_after=wait,
        )

    def record_success(self) -> None:
        """Call it after each answer that shows that the LMS works, refusals included."""
        self._connection_failures = 0
        self._outcomes.append(_SUCCESS)
        if self.is_open:
            self._state.clear(self._key)

    def record_failure(self, reason: str, *, subject: str, is_connected: bool) -> None:
        """Call it after each request without an answer, or with an answer that shows a broken LMS.

        reason: for people. subject: the run or learner of the request; repeated failures of the
        same subject count once. is_connected: whether a connection was made.
        """
        self._reason = reason
        if self.seconds_until_allowed > 0:
            return  # the circuit opened after this request was sent
        with self._lock:
            if subject not in self._outcomes:
                self._outcomes.append(subject)
            self._connection_failures = 0 if is_connected else self._connection_failures + 1
            failures = len(self._outcomes) - self._outcomes.count(_SUCCESS)
            is_window_full = len(self._outcomes) == _WINDOW
            mostly_fails = is_window_full and failures >= _WINDOW * _FAILURE_SHARE
            is_unreachable = self._connection_failures >= _MAX_CONNECTION_FAILURES
            # If the circuit is open, this request was its probe, and one failure is enough.
            if not (mostly_fails or is_unreachable or self.is_open):
                return
            self._outcomes.clear()
            self._connection_failures = 0
        pauses = self._state.increment(self._key, _MEMORY_SECONDS)
        pause = min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(pauses - 1, 10))
        # Ends only the claim of the probe that failed: the count of pauses must stay.
        self._state.clear(f"claim:{self._key}")
        self._state.pause(self._key, pause * random.uniform(0.8, 1.2))  # noqa: S311
