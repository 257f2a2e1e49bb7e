"""Logs one warning when the rows of a kind begin to fail, and one warning when rows succeed again;
logs nothing in between.

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
#: Seconds until failures are forgotten.
_MEMORY_SECONDS = 7200.0
#: Seconds until an outage that continues is logged again.
_REPEAT_SECONDS = 7 * 86400.0
#: Seconds within which only one worker logs the end of an outage.
_END_LOCK_SECONDS = 10.0

#: Identifies the worker. All processes of Celery's pool have the same value, because they are
#: forked after this import.
_worker = secrets.token_hex(4)

log = logging.getLogger("usher.engine")


class Outages:
    """Notes outages, and logs when they begin and end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Name of a kind or of other work → when this process logged that its outage begins.
        self._since: dict[str, float] = {}

    def forget(self) -> None:
        """Forgets all outages."""
        with self._lock:
            self._since.clear()

    def record_outcomes(
        self, kind: str, outcomes: Iterable[Outcome], state: State, system: OtherSystem
    ) -> None:
        """Notes the outcomes of rows of one kind that were written together: a failure if an error
        stops all rows, else a success if the other system accepted or refused any row, else a
        failure if any row failed."""
        errors = [outcome.error for outcome in outcomes if not outcome.is_waiting]
        failures = [error for error in errors if error is not None and _is_failure(error)]
        stopping_error = next((error for error in failures if _stops_all_rows(error)), None)
        if stopping_error is not None:
            self.record_failure(kind, stopping_error, state, system)
        elif any(error is None or _is_refusal(error) for error in errors):
            self.record_success(kind, state)
        elif failures:
            self.record_failure(kind, failures[0], state, system)

    def record_failure(
        self, work: str, error: KnownError, state: State, system: OtherSystem
    ) -> None:
        """Notes a failure, which begins an outage or continues one. Call it only if no row that was
        written together with the failed row succeeded. work: the name of a kind or of other
        work."""
        key = _key(work)
        failures = state.increment(key, _MEMORY_SECONDS)
        is_certain = _stops_all_rows(error) or system.is_down(error)
        if failures < _FAILURES_TO_LOG and not is_certain:
            return
        if not state.claim(key, _REPEAT_SECONDS):
            return  # the outage is logged already
        with self._lock:
            self._since[work] = time.monotonic()
        state_in_words = "stopped" if _stops_all_rows(error) else "fails"
        reason = f"{error.message} [{error.code}] {system.advice(error)}"
        log.warning("%s %s: %s", work, state_in_words, reason.strip())

    def record_success(self, work: str, state: State) -> None:
        """Notes a success, which ends an outage."""
        key = _key(work)
        with self._lock:
            began_at = self._since.pop(work, None)
        if began_at is None and not state.count(key):
            return
        # A worker that logs an outage claims the key, so a claim that fails shows a logged outage.
        was_logged = began_at is not None or not state.claim(key, _END_LOCK_SECONDS)
        state.clear(key)
        if was_logged and state.claim(f"{key}:end", _END_LOCK_SECONDS):
            duration = "" if began_at is None else f" after {time.monotonic() - began_at:.0f} s"
            log.warning("%s resumed%s", work, duration)


#: The outages of this process.
outages = Outages()


def _key(work: str) -> str:
    return f"outage:{_worker}:{work}"


def _stops_all_rows(error: KnownError) -> bool:
    """Whether no row can succeed for now: the kind is stopped, or no requests are sent."""
    return error.failure_class is FailureClass.SYSTEMIC or not error.was_sent


def _is_refusal(error: KnownError) -> bool:
    """Whether the other system answered, and refused the row."""
    return error.failure_class is FailureClass.REJECTED


def _is_failure(error: KnownError) -> bool:
    """Whether the other system failed to process the request, without refusing the row. Errors of
    the engine itself don't count."""
    return not _is_refusal(error) and not isinstance(error, EngineError)
