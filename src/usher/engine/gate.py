"""Stops a kind when every row of it would fail the same way, and tries it again with one row."""

from __future__ import annotations

from typing import Protocol

_FIRST = 15.0
_LONGEST = 300.0
_KEPT = 1800.0
_PROBE = 30.0


class State(Protocol):
    """What all workers share, by short names, such as Redis keeps it."""

    def pause(self, key: str, seconds: float) -> None:
        """Pauses ``key`` for that long, for all workers; a longer pause stays."""

    def remaining(self, key: str) -> float:
        """Seconds until ``key`` may be done; 0 when it may be done now."""

    def claim(self, key: str, seconds: float) -> bool:
        """Whether this caller is the one who may do ``key`` within that time."""

    def raise_level(self, key: str, seconds: float) -> int:
        """Counts one more failure of ``key``; forgotten that long after the last."""

    def level(self, key: str) -> int:
        """The failures counted and not forgotten."""

    def clear(self, key: str) -> None:
        """Forgets everything about ``key``."""


class Gate:
    """One for each kind; known to all workers."""

    def __init__(self, kind: str, state: State) -> None:
        self.key = f"kind:{kind}"
        self._state = state

    def allows(self) -> int | None:
        """How many rows may be claimed now: None for any number, 1 for a probe, 0 for none."""
        if not self.is_closed:
            return None
        if self._state.remaining(self.key) > 0:
            return 0
        return 1 if self._state.claim(self.key, _PROBE) else 0

    @property
    def is_closed(self) -> bool:
        """Since a systemic failure, whether or not a probe is allowed by now."""
        return bool(self._state.level(self.key))

    @property
    def opens_in(self) -> float:
        """Seconds until a probe is allowed."""
        return self._state.remaining(self.key)

    def close(self) -> None:
        """After a systemic failure. Those that were on their way with it count once."""
        if self._state.remaining(self.key) > 0:
            return
        level = self._state.raise_level(self.key, _KEPT)
        self._state.clear(f"claim:{self.key}")
        self._state.pause(self.key, min(_LONGEST, _FIRST * 2 ** min(level - 1, 8)))

    def open(self) -> None:
        """After a success, or when a person says that it was repaired."""
        if self.is_closed:
            self._state.clear(self.key)
