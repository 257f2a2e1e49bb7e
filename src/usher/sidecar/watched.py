"""The state of a sidecar with ``--watch``, for its pages and metrics. It is kept in memory only."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from usher.client.http import Exchange
from usher.sidecar.opening import Opened
from usher.sidecar.outcome import FAILED, REFUSED, REST, Outcome

#: Seconds for which a refusal is shown after its last attempt; the next one is after ``REST``.
_SHOWN = timedelta(seconds=2 * REST)
#: Seconds without a successful pass after which the sidecar is late.
LATE = timedelta(minutes=5)
_MOST = 10_000


@dataclass
class Refused:
    """A refused or failed row. result: ``refused`` or ``failed``. request_id: of the request to the
    LMS, or ''. first, last: the times of its first and last attempt."""

    kind: str
    what: str
    result: str
    reason: str
    code: str
    request_id: str
    first: datetime
    last: datetime


class Counting(Protocol):
    """The interface of ``metrics.Metrics``."""

    def passed(self, outcome: Outcome, refused: list[Refused]) -> None: ...
    def exchange(self, exchange: Exchange) -> AbstractContextManager[None]: ...


class Watched:
    """Safe to use from several threads. opened: the application and its LMS; None while they can't
    be reached. trouble: the reason, and the time of the next try."""

    def __init__(self, counting: Counting | None = None) -> None:
        self._lock = threading.Lock()
        self._counting = counting
        self._refused: dict[tuple[str, str], Refused] = {}
        self.started = now()
        self.opened: Opened | None = None
        self.has_opened = False
        self.looked: datetime | None = None
        self.trouble: tuple[str, datetime] | None = None
        self.numbers: Counter[tuple[str, str]] = Counter()

    def around(self, exchange: Exchange) -> AbstractContextManager[None]:
        """A context manager that is entered for each request to the LMS."""
        return self._counting.exchange(exchange) if self._counting else nullcontext()

    def opens(self, sides: Opened) -> None:
        self.opened, self.has_opened = sides, True

    def passed(self, outcome: Outcome) -> None:
        """Records the outcome of a pass that ended or failed."""
        at = now()
        with self._lock:
            self.numbers.update(outcome.numbers)
            for entry in outcome.reasons:
                if entry["result"] in (REFUSED, FAILED):
                    self._meet(entry, at)
            kept = (one for one in self._refused.values() if at - one.last < _SHOWN)
            self._refused = {(one.kind, one.what): one for one in kept}
        if self._counting:
            self._counting.passed(outcome, self.refused())

    def looks_again(self) -> None:
        """Records that a pass succeeded."""
        self.looked, self.trouble = now(), None

    def _meet(self, entry: dict[str, str], at: datetime) -> None:
        key = (entry["kind"], entry["what"])
        if (found := self._refused.get(key)) is not None:
            found.result, found.reason, found.last = entry["result"], entry["reason"], at
            found.request_id = entry["request_id"]
        elif len(self._refused) < _MOST:
            self._refused[key] = Refused(**entry, first=at, last=at)

    def troubled(self, reason: str, wait: float) -> None:
        self.opened, self.trouble = None, (reason, now() + timedelta(seconds=wait))

    def refused(self) -> list[Refused]:
        """Returns rows that were refused or failed recently, newest first."""
        with self._lock:
            return sorted(self._refused.values(), key=lambda one: one.last, reverse=True)

    def as_outcome(self) -> Outcome:
        """Returns the counts since the start."""
        with self._lock:
            return Outcome(numbers=Counter(self.numbers))

    @property
    def is_late(self) -> bool:
        return now() - (self.looked or self.started) > LATE


def now() -> datetime:
    return datetime.now(UTC)
