"""Logs one warning when the rows of a kind begin to fail, a second one when rows succeed again, and
nothing in between.

The processes of a worker share the counts of failures, so that only one of them logs an outage. A
failure that stops all rows, or shows that the other system is down, is logged immediately. Any
other failure is logged when the next rows fail as well, because a single failed request is no
outage.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Iterable

from usher.contract.failures import FailureClass
from usher.engine.errors import EngineError, KnownError
from usher.engine.gate import State
from usher.engine.kinds import Outcome
from usher.engine.other_system import OtherSystem

#: Consecutive failures after which an outage is logged, if each might concern one row only.
_FAILURES_TO_LOG = 2
#: Seconds until failures are forgotten, and until an outage that continues is logged again.
_MEMORY_SECONDS = 7200.0
_AGAIN = 7 * 86400.0
#: Seconds within which only one worker logs the end of an outage.
_END_LOCK_SECONDS = 10.0

#: Identifies the worker. All processes of Celery's pool have the same value, because they are
#: forked after this import.
_worker = secrets.token_hex(4)

log = logging.getLogger("usher.engine")


class Outages:
    """The outages whose beginning this process has logged, with their times."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def forget(self) -> None:
        """Forgets all outages."""
        with self._lock:
            self._since.clear()

    def note(
        self, kind: str, outcomes: Iterable[Outcome], state: State, system: OtherSystem
    ) -> None:
        """Notes the outcomes of rows of one kind that were written together."""
        tried = [outcome.error for outcome in outcomes if not outcome.is_waiting]
        failures = [error for error in tried if error is not None and _is_failure(error)]
        stops = next((error for error in failures if _stops(error)), None)
        if stops is not None:
            self.failed(kind, stops, state, system)
        elif any(error is None or _is_answer(error) for error in tried):
            self.succeeded(kind, state)
        elif failures:
            self.failed(kind, failures[0], state, system)

    def failed(self, work: str, error: KnownError, state: State, system: OtherSystem) -> None:
        """Notes a failure, with no success at the same time. work: the name of a kind or of other
        work."""
        key = _key(work)
        times = state.raise_level(key, _MEMORY_SECONDS)
        if times < _FAILURES_TO_LOG and not (_stops(error) or system.is_down(error)):
            return
        if not state.claim(key, _AGAIN):
            return  # logged before
        with self._lock:
            self._since[work] = time.monotonic()
        happens = "stopped" if _stops(error) else "fails"
        text = f"{error.message} [{error.code}] {system.advice(error)}"
        log.warning("%s %s: %s", work, happens, text.strip())

    def succeeded(self, work: str, state: State) -> None:
        """Notes a success, which ends an outage."""
        key = _key(work)
        with self._lock:
            began = self._since.pop(work, None)
        if began is None and not state.level(key):
            return
        was_logged = began is not None or not state.claim(key, _END_LOCK_SECONDS)
        state.clear(key)
        if was_logged and state.claim(f"{key}:end", _END_LOCK_SECONDS):
            after = "" if began is None else f" after {time.monotonic() - began:.0f} s"
            log.warning("%s resumed%s", work, after)


#: The outages of this process.
outages = Outages()


def _key(work: str) -> str:
    return f"outage:{_worker}:{work}"


def _stops(error: KnownError) -> bool:
    """Whether no row can succeed for now: the kind is stopped, or no requests are sent."""
    return error.failure_class is FailureClass.SYSTEMIC or not error.was_sent


def _is_answer(error: KnownError) -> bool:
    """Whether the other system answered, and refused the row."""
    return error.failure_class is FailureClass.REJECTED


def _is_failure(error: KnownError) -> bool:
    """Whether the other system failed to process the request: it gave no proper answer. The
    engine's own errors are no failures of the other system."""
    return not _is_answer(error) and not isinstance(error, EngineError)
