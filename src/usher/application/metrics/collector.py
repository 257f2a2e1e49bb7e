"""Collects the answer to one scrape: the sums in the database, and the current number of rows.

Every query reads an index of the rows that are due, claimed or refused, and counts no more than
``MAX_COUNTED_ROWS`` rows. So the cost of a scrape does not depend on the number of learners.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from django.db import connection
from django.db.models import Count, Min
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

import usher
from usher.application.enrollments.adoption import ENROLLMENTS_LISTED
from usher.application.metrics import conditions
from usher.application.metrics.models import MetricValue
from usher.application.provider.models import SignOutMessage
from usher.client import batch
from usher.client.client import GROUPS
from usher.contract import metrics
from usher.contract.metrics import Metric
from usher.engine import heartbeat
from usher.engine.clock import database_now
from usher.engine.models import OutstandingMessage, Watermark
from usher.engine.registry import kind_names
from usher.engine.work import Work
from usher.engine.work import due as due_work

#: The most rows of one kind that are counted; this number means "this many or more".
MAX_COUNTED_ROWS = 100_000

_FAMILIES: dict[str, Any] = {
    metrics.COUNTER: CounterMetricFamily,
    metrics.GAUGE: GaugeMetricFamily,
    metrics.HISTOGRAM: HistogramMetricFamily,
}
#: Label values and value.
_Samples = Iterable[tuple[tuple[str, ...], float]]
#: Label values → part → value. The parts of a histogram are its buckets' upper bounds and ``sum``;
#: other metrics have one part, ''.
_Parts = dict[tuple[str, ...], dict[str, float]]


class DatabaseCollector(Collector):
    """Collects the metrics of one scrape."""

    def collect(self) -> Iterator[Any]:
        yield _family(metrics.BUILD, [((usher.__version__,), 1.0)])
        yield from _work_families()
        yield from _time_families()
        yield from _message_families()
        stored = _stored_sums()
        for metric in metrics.ALL:
            if metric.type == metrics.HISTOGRAM:
                empty: _Parts = {labels: {} for labels in _known_labels(metric)}
                yield _histogram(metric, empty | stored.get(metric.name, {}))
            elif metric.type == metrics.COUNTER or metric in _GAUGES_OF_WORKERS:
                values = dict.fromkeys(_known_labels(metric), 0.0)
                values |= {
                    labels: parts[""] for labels, parts in stored.get(metric.name, {}).items()
                }
                yield _family(metric, values.items())
        yield from conditions.families(stored, _family)


def _known_labels(metric: Metric) -> Iterator[tuple[str, ...]]:
    """The labels that a counter or a histogram can have. Each is exported as 0 before the first
    count: Prometheus sees no increase in a series that begins with 500."""
    if metric is metrics.OUTCOMES:
        yield from product(kind_names(), metrics.OUTCOME_LABELS)
    elif metric is metrics.WEBHOOKS:
        yield from ((result,) for result in metrics.WEBHOOK_RESULTS)
    elif metric in (metrics.SETTLE, metrics.BATCH_ROWS):
        yield from ((name,) for name in kind_names())
    elif metric is metrics.REQUEST:
        yield from product(GROUPS, metrics.REQUEST_RESULTS)
    elif metric in (metrics.PASSES, metrics.WEBHOOK_LAG):
        yield ()  # these metrics have no labels


#: Lists that the application requests from the LMS. Other watermarks, such as the one of the
#: console's mails, are not about the LMS.
_REQUESTED_LISTS = (batch.ACCOUNTS, batch.ENROLLMENTS, batch.COURSE_RUNS, ENROLLMENTS_LISTED)
#: Gauges that workers write.
_GAUGES_OF_WORKERS = (metrics.OUTBOX, metrics.OUTBOX_OLDEST)


def registry() -> CollectorRegistry:
    # Otherwise ``register`` would already run the queries, to find out the metrics' names.
    result = CollectorRegistry(auto_describe=False)
    result.register(DatabaseCollector())
    return result


def _family(metric: Metric, samples: _Samples) -> Any:
    # prometheus-client adds the ending of a counter's name itself.
    family = _FAMILIES[metric.type](metric.name, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, value)
    return family


def _histogram(metric: Metric, stored_parts: _Parts) -> Any:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, parts in stored_parts.items():
        total, buckets = 0.0, []  # Prometheus's buckets are cumulative, the stored ones are not
        for bound in (*(str(bucket) for bucket in metric.buckets), "+Inf"):
            total += parts.get(bound, 0.0)
            buckets.append((bound, total))
        family.add_metric(labels, buckets, sum_value=parts.get("sum", 0.0))
    return family


def _work_families() -> Iterator[Any]:
    """Of each kind: the rows that are due, that workers have claimed, and that were refused."""
    now = database_now()
    due: list[tuple[tuple[str, ...], float]] = []
    oldest: list[tuple[tuple[str, ...], float]] = []
    leased: list[tuple[tuple[str, ...], float]] = []
    refused: list[tuple[tuple[str, ...], float]] = []
    for name in kind_names():
        work = Work.objects.filter(kind=name)
        due_summary = (
            due_work(name, now)
            .order_by("lane", "due_at", "object_id")[:MAX_COUNTED_ROWS]
            .aggregate(count=Count("pk"), oldest=Min("due_at"))
        )
        oldest_due_at = due_summary["oldest"]
        seconds = max(0.0, (now - oldest_due_at).total_seconds()) if oldest_due_at else 0.0
        due.append(((name,), due_summary["count"]))
        oldest.append(((name,), seconds))
        leased.append(((name,), work.filter(lease_until__gt=now)[:MAX_COUNTED_ROWS].count()))
        refused += [
            ((name, code), count)
            for code, count in _count_by_code(work.filter(refused_at__isnull=False))
        ]
    yield _family(metrics.DUE, due)
    yield _family(metrics.OLDEST_DUE, oldest)
    yield _family(metrics.LEASED, leased)
    yield _family(metrics.REFUSED, refused)


def _count_by_code(rows: Any) -> list[tuple[str, int]]:
    """Error code and number of these rows. The ORM can't group a limited query."""
    inner, parameters = (
        rows.order_by().values("error_code")[:MAX_COUNTED_ROWS].query.sql_with_params()
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT error_code, COUNT(*) FROM ({inner}) refused GROUP BY error_code",  # noqa: S608
            parameters,
        )
        counts: list[tuple[str, int]] = cursor.fetchall()
    return counts


def _time_families() -> Iterator[Any]:
    """The times of workers and sweeps, from one small table."""
    watermarks = Watermark.objects.filter(
        name__in=(heartbeat.WORKER, heartbeat.SWEEP, *_REQUESTED_LISTS)
    )
    asked_at = {watermark.name: watermark.asked_at.timestamp() for watermark in watermarks}
    for metric, name in ((metrics.WORKER_SEEN, heartbeat.WORKER), (metrics.SWEPT, heartbeat.SWEEP)):
        timestamp = asked_at.pop(name, None)
        yield _family(metric, [] if timestamp is None else [((), timestamp)])
    yield _family(metrics.ASKED, [((name,), timestamp) for name, timestamp in asked_at.items()])


def _message_families() -> Iterator[Any]:
    """Messages that workers have not processed yet, and sign-outs not delivered to an LMS yet."""
    now = database_now()
    outstanding = OutstandingMessage.objects.filter(until__gt=now)[:MAX_COUNTED_ROWS].count()
    yield _family(metrics.OUTSTANDING, [((), outstanding)])
    waiting = SignOutMessage.objects.order_by("pk")
    oldest = waiting.values_list("created_at", flat=True).first()
    yield _family(metrics.SIGN_OUTS, [((), waiting[:MAX_COUNTED_ROWS].count())])
    seconds = max(0.0, time.time() - oldest.timestamp()) if oldest else 0.0
    yield _family(metrics.SIGN_OUTS_OLDEST, [((), seconds)])


def _stored_sums() -> dict[str, _Parts]:
    """The sums of all processes: metric's name → label values → part → value."""
    parts_by_name: dict[str, _Parts] = {}
    rows = MetricValue.objects.order_by("name", "labels")
    for name, labels, part, value in rows.values_list("name", "labels", "part", "value"):
        by_labels = parts_by_name.setdefault(name, {})
        by_labels.setdefault(tuple(json.loads(labels)), {})[part] = value
    return parts_by_name
