"""Metrics of a sidecar with ``--watch``: the part of ``usher.contract.metrics`` that applies to a
sidecar.

Labels are kinds, outcomes and groups of endpoints; none is about a learner.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

import usher
from usher.client.client import GROUPS
from usher.client.http import Exchange
from usher.contract import metrics
from usher.contract.metrics import Metric
from usher.sidecar.reconcile import KINDS
from usher.sidecar.summary import DONE, FAILED, INVALID, REFUSED, SKIPPED, Summary
from usher.sidecar.watch_state import RefusedRow

#: The result of a row → its label.
_LABELS = {
    DONE: "changed",
    REFUSED: "rejected",
    FAILED: "transient",
    SKIPPED: "waits",
    INVALID: "rejected",
}


class Metrics:
    """The counts of this process. They begin at 0 at each start, as Prometheus expects."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._gauge(metrics.BUILD).labels(usher.__version__).set(1)
        self._outcomes = self._counter(metrics.OUTCOMES)
        self._passes = self._counter(metrics.PASSES)
        self._worker_seen = self._gauge(metrics.WORKER_SEEN)
        self._refused = self._gauge(metrics.REFUSED)
        self._requests = Histogram(
            metrics.REQUEST.name,
            metrics.REQUEST.help,
            metrics.REQUEST.labels,
            registry=self.registry,
            buckets=metrics.REQUEST.buckets,
        )
        self._start_series_at_zero()
        self._worker_seen.set_to_current_time()

    def _start_series_at_zero(self) -> None:
        """Creates each series: if its first value were 500, Prometheus would see no increase."""
        for kind, label in product(KINDS, _LABELS.values()):
            self._outcomes.labels(kind, label)
        for group, result in product(GROUPS, metrics.REQUEST_RESULTS):
            self._requests.labels(group, result)

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self.registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self.registry)

    def record_pass(self, summary: Summary, rows: list[RefusedRow]) -> None:
        """Counts a pass that ended or failed. rows: those that are refused or failing now, also
        those of earlier passes; only the refused ones are counted."""
        self._passes.inc()
        self._worker_seen.set_to_current_time()
        for (kind, result), number in summary.numbers.items():
            self._outcomes.labels(kind, _LABELS[result]).inc(number)
        self._refused.clear()
        refused_rows = [row for row in rows if row.result == REFUSED]
        numbers = collections.Counter((row.kind, row.code) for row in refused_rows)
        for (kind, code), number in numbers.items():
            self._refused.labels(kind, code).set(number)

    @contextmanager
    def measure_request(self, exchange: Exchange) -> Iterator[None]:
        """Measures the request that is sent within the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self._requests.labels(exchange.group, exchange.result).observe(seconds)


@contextmanager
def serve_metrics(pass_metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Serves ``/metrics`` until the block ends. Yields the port. port: 0 for a free one. Raises
    OSError if the address can't be listened on."""
    server: WSGIServer
    thread: threading.Thread
    server, thread = start_http_server(port, addr=host, registry=pass_metrics.registry)
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
