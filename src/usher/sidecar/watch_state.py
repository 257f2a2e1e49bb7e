"""The state of a sidecar with ``--watch``, for its pages and metrics. The state is kept in memory
only."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from usher.client.http import Exchange
from usher.sidecar.session import Session
from usher.sidecar.summary import FAILED, REFUSED, REFUSED_PAUSE, Summary

#: How long a refusal is shown after its last attempt. The next attempt follows after
#: ``REFUSED_PAUSE``.
_SHOWN_FOR = timedelta(seconds=2 * REFUSED_PAUSE)
#: The time without a successful pass after which the sidecar counts as late.
LATE_AFTER = timedelta(minutes=5)
#: The most rows that are shown as refused or failed.
_MAX_REFUSED = 10_000


@dataclass
class RefusedRow:
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


class Trouble(NamedTuple):
    """Why the application or the LMS can't be reached, and the time of the next try."""

    reason: str
    retry_at: datetime


class PassMetrics(Protocol):
    """The interface of ``metrics.Metrics``."""

    def record_pass(self, summary: Summary, rows: list[RefusedRow]) -> None: ...
    def measure_request(self, exchange: Exchange) -> AbstractContextManager[None]: ...


class WatchState:
    """Results of the passes since the start. Several threads may use it. session: the application
    and its LMS; None while they can't be reached. has_opened: whether both were reached at least
    once. last_pass: when the last successful pass ended; None before the first. trouble: None while
    both can be reached. numbers: (kind, result) → number of rows."""

    def __init__(self, metrics: PassMetrics | None = None) -> None:
        self._lock = threading.Lock()
        self._metrics = metrics
        #: (kind, what) → row, for rows that were refused or failed recently.
        self._refused_rows: dict[tuple[str, str], RefusedRow] = {}
        self.started = now()
        self.session: Session | None = None
        self.has_opened = False
        self.last_pass: datetime | None = None
        self.trouble: Trouble | None = None
        self.numbers: Counter[tuple[str, str]] = Counter()

    def measure_request(self, exchange: Exchange) -> AbstractContextManager[None]:
        """Returns a context manager to enter for each request to the LMS."""
        return self._metrics.measure_request(exchange) if self._metrics else nullcontext()

    def record_start(self, session: Session) -> None:
        """Records that the application and the LMS were reached."""
        self.session = session
        self.has_opened = True

    def record_pass(self, summary: Summary) -> None:
        """Records the summary of a pass that ended or failed."""
        ended_at = now()
        with self._lock:
            self.numbers.update(summary.numbers)
            for entry in summary.reasons:
                if entry["result"] in (REFUSED, FAILED):
                    self._record_reason(entry, ended_at)
            self._refused_rows = {
                key: row
                for key, row in self._refused_rows.items()
                if ended_at - row.last < _SHOWN_FOR
            }
        if self._metrics:
            self._metrics.record_pass(summary, self.refused())

    def record_success(self) -> None:
        """Records that a pass succeeded."""
        self.last_pass = now()
        self.trouble = None

    def _record_reason(self, entry: dict[str, str], ended_at: datetime) -> None:
        """Adds the row, or updates the one of the same kind and the same learner or run. If there
        are ``_MAX_REFUSED`` rows, adds no other. The caller holds the lock."""
        key = (entry["kind"], entry["what"])
        row = self._refused_rows.get(key)
        if row is not None:
            row.result = entry["result"]
            row.reason = entry["reason"]
            row.code = entry["code"]
            row.request_id = entry["request_id"]
            row.last = ended_at
        elif len(self._refused_rows) < _MAX_REFUSED:
            self._refused_rows[key] = RefusedRow(**entry, first=ended_at, last=ended_at)

    def record_trouble(self, reason: str, wait: float) -> None:
        """Records why the application or the LMS can't be reached. wait: seconds until the next
        try."""
        self.session = None
        self.trouble = Trouble(reason, retry_at=now() + timedelta(seconds=wait))

    def refused(self) -> list[RefusedRow]:
        """Returns rows that were refused or failed recently, newest first."""
        with self._lock:
            return sorted(
                self._refused_rows.values(), key=lambda refusal: refusal.last, reverse=True
            )

    def as_summary(self) -> Summary:
        """Returns the counts since the start."""
        with self._lock:
            return Summary(numbers=Counter(self.numbers))

    @property
    def is_late(self) -> bool:
        """Whether no pass has succeeded for ``LATE_AFTER``."""
        return now() - (self.last_pass or self.started) > LATE_AFTER


def now() -> datetime:
    return datetime.now(UTC)
