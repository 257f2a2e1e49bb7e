"""Logs one warning when a kind stops and one when it resumes, and nothing in between."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from usher.contract.failures import FailureClass
from usher.engine.errors import KnownError
from usher.engine.kinds import Outcome

log = logging.getLogger("usher.engine")


class Outages:
    """The kinds that are stopped, as seen by the runs of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}

    def note(self, kind: str, outcomes: Iterable[Outcome]) -> None:
        """Looks for a stop or a success among the outcomes of rows of that kind, and logs it."""
        outcomes = list(outcomes)
        failure = next((o.error for o in outcomes if o.error and _stops(o.error)), None)
        with self._lock:
            began = self._since.get(kind)
            if failure is not None and began is None:
                self._since[kind] = time.monotonic()
                log.warning("%s stopped: %s [%s]", kind, failure.message, failure.code)
            elif failure is None and began is not None and any(o.error is None for o in outcomes):
                del self._since[kind]
                log.warning("%s resumed after %.0f s", kind, time.monotonic() - began)


def _stops(error: KnownError) -> bool:
    """Whether no row can succeed for now: the kind is stopped, or no requests are sent."""
    return error.failure_class is FailureClass.SYSTEMIC or not error.was_sent
