"""Stops a kind while all its rows would fail the same way; probes with one row at a time."""

from __future__ import annotations

from typing import Protocol

_FIRST_PAUSE_SECONDS = 15.0
_MAX_PAUSE_SECONDS = 300.0
#: Seconds after which the count of failures begins again.
_MEMORY_SECONDS = 1800.0
#: Seconds that a probe may take before the next probe is allowed.
_PROBE_SECONDS = 30.0


class State(Protocol):
    """State that all workers share, for example in Redis. Keys are short names; times are in
    seconds."""

    def pause(self, key: str, seconds: float) -> None:
        """Pauses ``key`` for all workers. An earlier pause that lasts longer stays."""

    def remaining(self, key: str) -> float:
        """Seconds until the pause of ``key`` ends; 0 when ``key`` is not paused."""

    def claim(self, key: str, seconds: float) -> bool:
        """Claims ``key``: True for the first caller within ``seconds``, False for all others. The
        claim is stored as a pause of ``claim:<key>``, so that it can be cleared alone."""

    def increment(self, key: str, seconds: float) -> int:
        """Adds 1 to the count of ``key``, such as a count of failures, and returns the count. The
        count becomes 0 again ``seconds`` after the last call."""

    def count(self, key: str) -> int:
        """The current count of ``key``; 0 if it was not incremented lately."""

    def clear(self, key: str) -> None:
        """Deletes the pause, the claim and the count of ``key``."""


class Gate:
    """The gate of one kind, shared by all workers."""

    def __init__(self, kind: str, state: State) -> None:
        self.key = f"kind:{kind}"
        self._state = state

    def allowed_rows(self) -> int | None:
        """How many rows may be claimed now: None for any number, 1 for a probe, 0 for none. The
        caller that gets 1 has claimed the probe: all others get 0 for ``_PROBE_SECONDS``."""
        if not self.is_closed:
            return None
        if self._state.remaining(self.key) > 0:
            return 0
        return 1 if self._state.claim(self.key, _PROBE_SECONDS) else 0

    @property
    def is_closed(self) -> bool:
        """Whether a systemic failure occurred after the last success. A closed gate may allow a
        probe."""
        return bool(self._state.count(self.key))

    def close(self) -> None:
        """Closes the gate after a systemic failure, and pauses the kind, longer after each failure.
        Concurrent requests that fail together count once."""
        if self._state.remaining(self.key) > 0:
            return
        failures = self._state.increment(self.key, _MEMORY_SECONDS)
        # Ends only the claim of the probe that failed, which is stored under this key. The count of
        # failures, which ``clear(self.key)`` would delete, must stay.
        self._state.clear(f"claim:{self.key}")
        self._state.pause(
            self.key, min(_MAX_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 8))
        )

    def open(self) -> None:
        """Opens the gate: any number of rows may be claimed. Called after a success, or when an
        operator says that the cause was repaired."""
        if self.is_closed:
            self._state.clear(self.key)
