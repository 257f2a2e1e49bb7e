"""Counts in memory, and adds the counts to the database every few seconds.

A count takes about a microsecond and no SQL statement. If a process is killed, the counts of its
last seconds are lost.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext

from django.db import DatabaseError, connection, transaction

from usher.application.metrics.models import MetricValue
from usher.client.http import Exchange
from usher.contract import metrics
from usher.contract.metrics import Metric

#: Seconds between two writes by a busy process.
WRITE_SECONDS = 10.0
_INFINITE = "+Inf"

log = logging.getLogger("usher.metrics")

#: Name of the metric, label values, part.
_Key = tuple[str, tuple[str, ...], str]


class Recorder:
    """The counts of this process since it last wrote them. Safe for use by several threads."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drops the counts. Called at the start of a forked process, since the parent process
        writes the counts from before the fork."""
        # A new lock: at a fork, a thread of the parent process may have held the earlier one.
        self._lock = threading.Lock()
        #: What to add to the counters and histograms in the database.
        self._added: dict[_Key, float] = {}
        #: The gauges to store in the database.
        self._values: dict[_Key, float] = {}
        self._written_at = time.monotonic()

    def count(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        with self._lock:
            self._add(metric, labels, "", by)

    def observe(self, metric: Metric, *labels: str, value: float) -> None:
        """Adds one observation to a histogram."""
        index = bisect_left(metric.buckets, value)
        part = str(metric.buckets[index]) if index < len(metric.buckets) else _INFINITE
        with self._lock:
            self._add(metric, labels, part, 1.0)
            self._add(metric, labels, "sum", value)

    def set(self, metric: Metric, *labels: str, value: float) -> None:
        """Sets a gauge, and so replaces the value that any process wrote before."""
        with self._lock:
            self._values[metric.name, labels, ""] = value

    def _add(self, metric: Metric, labels: tuple[str, ...], part: str, amount: float) -> None:
        key = (metric.name, labels, part)
        self._added[key] = self._added.get(key, 0.0) + amount

    @property
    def is_due(self) -> bool:
        """Whether the last write was some time ago."""
        return time.monotonic() - self._written_at >= WRITE_SECONDS

    @property
    def has_values(self) -> bool:
        """Whether a gauge has a value that was not written yet."""
        return bool(self._values)

    def flush(self) -> None:
        """Adds the counts to the database, in one or two statements. If the database fails, the
        counts are kept for the next call."""
        with self._lock:
            added, self._added = self._added, {}
            values, self._values = self._values, {}
            self._written_at = time.monotonic()
        if not added and not values:
            return
        try:
            _write_all(added, values)
        except DatabaseError as error:
            log.warning("metrics are kept for the next write: %s", str(error).strip())
            with self._lock:
                for key, amount in added.items():
                    self._added[key] = self._added.get(key, 0.0) + amount
                self._values = values | self._values


def _write_all(added: dict[_Key, float], values: dict[_Key, float]) -> None:
    """Writes in a transaction, unless there is only one statement, which is atomic by itself."""
    # Within the caller's transaction: a savepoint, so that an error does not break it.
    in_transaction = bool(added and values) or connection.in_atomic_block
    with transaction.atomic() if in_transaction else nullcontext():
        _write(added, "usher_metricvalue.value + excluded.value")
        _write(values, "excluded.value")


def _write(numbers: dict[_Key, float], value: str) -> None:
    """Writes in the order of the keys. All processes do so, which avoids deadlocks. value: the SQL
    expression for a number whose row exists."""
    if not numbers:
        return
    rows = sorted(
        (name, labels_text(labels), part, number)
        for (name, labels, part), number in numbers.items()
    )
    parameters: list[str | float] = []
    for row in rows:
        parameters += row
    places = ", ".join(["(%s, %s, %s, %s)"] * len(rows))
    table = connection.ops.quote_name(MetricValue._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (name, labels, part, value) VALUES {places} "  # noqa: S608
            f"ON CONFLICT (name, labels, part) DO UPDATE SET value = {value}, "
            "updated_at = CURRENT_TIMESTAMP",
            parameters,
        )


def labels_text(labels: Iterable[str]) -> str:
    """Label values as ``MetricValue.labels`` has them."""
    return json.dumps(list(labels), separators=(",", ":"))


recorder = Recorder()
os.register_at_fork(after_in_child=recorder.forget)


@contextmanager
def measure(exchange: Exchange) -> Iterator[None]:
    """Measures one request to the LMS."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        recorder.observe(metrics.REQUEST, exchange.group, exchange.result, value=seconds)
