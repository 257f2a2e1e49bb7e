"""Metrics of closed gates, open circuits and pauses.

Each process stores the time at which such a state ends. With Redis, the process that is scraped
also reads the state that all processes share in Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from usher.application.lms_client import client
from usher.application.metrics.recorder import recorder
from usher.client.client import GROUPS
from usher.client.shared import SharedState
from usher.contract import metrics
from usher.contract.metrics import Metric
from usher.engine.gate import Gate
from usher.engine.registry import kind_names

#: Seconds for which a closed gate, or an open circuit, is shown while it is being probed.
_PROBE_SECONDS = 60.0

#: Seconds between two reads by one process. With Redis, each read takes some dozens of Redis
#: commands.
_SECONDS_BETWEEN_READS = 5.0

#: Metric's name and label of the gates, circuits and pauses that were recorded as not ended.
_recorded: set[tuple[str, str]] = set()
#: When this process last read them, by the monotonic clock; at first, long enough ago.
_read_at = -_SECONDS_BETWEEN_READS


def record_if_due() -> None:
    """Stores in the recorder the gates, circuits and pauses that this process knows, at most once
    in a few seconds."""
    global _read_at
    if time.monotonic() - _read_at < _SECONDS_BETWEEN_READS:
        return
    _read_at = time.monotonic()
    now = time.time()
    for metric, label, seconds in _pauses(client().http.state):
        key = (metric.name, label)
        if seconds > 0:
            _recorded.add(key)
            recorder.set(metric, label, value=now + seconds)
        elif key in _recorded:
            _recorded.discard(key)
            recorder.set(metric, label, value=0.0)


def families(
    stored: dict[str, dict[tuple[str, ...], dict[str, float]]], make: Callable[..., Any]
) -> Iterator[Any]:
    """The metrics of gates, circuits and pauses for one scrape. Gates and circuits are 0 or 1,
    pauses are in seconds. stored: metric's name → label values → part → value, which is the time
    until which requests are not allowed. make: takes a metric and its samples."""
    now = time.time()
    # Metric → label → seconds until requests are allowed.
    values: dict[Metric, dict[str, float]] = {}
    for metric, labels in _labels_of_metrics().items():
        values[metric] = dict.fromkeys(labels, 0.0)
        for (label,), parts in stored.get(metric.name, {}).items():
            values[metric][label] = max(0.0, parts[""] - now)
    for metric, label, seconds in _pauses(client().http.state):
        values[metric][label] = max(values[metric].get(label, 0.0), seconds)
    for metric, by_label in values.items():
        samples = []
        for label, seconds in by_label.items():
            value = seconds if metric is metrics.THROTTLED else float(seconds > 0)
            samples.append(((label,), value))
        yield make(metric, samples)


#: The circuit of connections to the LMS's host, and those of the groups of its endpoints.
_CIRCUITS = ("host", *GROUPS)


def _labels_of_metrics() -> dict[Metric, tuple[str, ...]]:
    return {
        metrics.CIRCUIT_OPEN: _CIRCUITS,
        metrics.THROTTLED: GROUPS,
        metrics.GATE_CLOSED: kind_names(),
    }


def _pauses(state: SharedState) -> Iterator[tuple[Metric, str, float]]:
    """Metric, label, and the seconds until requests are allowed; 0 if they are allowed now."""
    for group in _CIRCUITS:
        yield metrics.CIRCUIT_OPEN, group, _seconds_of(state, f"circuit:{group}")
    for group in GROUPS:
        yield metrics.THROTTLED, group, state.remaining(f"group:{group}")
    for kind in kind_names():
        yield metrics.GATE_CLOSED, kind, _seconds_of(state, Gate(kind, state).key)


def _seconds_of(state: SharedState, key: str) -> float:
    """Seconds until the gate or circuit allows requests; ``_PROBE_SECONDS`` while it is probed; 0
    if requests are allowed."""
    return state.remaining(key) or (_PROBE_SECONDS if state.count(key) else 0.0)
