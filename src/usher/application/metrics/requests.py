"""Measures requests to the LMS."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from usher.application.metrics.recorder import recorder
from usher.client.http import Exchange
from usher.contract import metrics


@contextmanager
def measured(exchange: Exchange) -> Iterator[None]:
    """For the time of one request."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        recorder.observe(metrics.REQUEST, exchange.group, exchange.result, value=seconds)
