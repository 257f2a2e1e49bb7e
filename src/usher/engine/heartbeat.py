"""Records when a worker was last alive, so that its absence is reported within seconds.

All workers share one row of ``Watermark``, which has the time of the newest beat.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from django.db import Error, connections

from usher.engine import observers
from usher.engine.clock import database_now, moment
from usher.engine.models import Watermark

WORKER, SWEEP = "worker", "sweep"
#: Seconds between two beats of one process.
_SECONDS_BETWEEN_BEATS = 2.0
#: Seconds without a beat after which ``watch``, which beats all the time, counts as not running.
LATE_WATCHING_SECONDS = 30
#: Seconds without a beat after which Celery's workers, which beat at each sweep, once a minute,
#: count as not running.
LATE_SWEEPING_SECONDS = 180
#: Recorded in place of these seconds when a worker was told to stop: it counts as not running.
STOPPED = 0
#: Seconds for which a thread beats for a worker that waits: enough for several requests that the
#: other system does not answer, each of which may take a minute.
_MAX_WAIT_SECONDS = 600.0

log = logging.getLogger("usher.engine")

_last_beat = 0.0


def beat(late_after: int = LATE_WATCHING_SECONDS) -> None:
    """Records that a worker is running; at most once in two seconds. late_after: seconds without
    another beat after which the worker counts as not running."""
    global _last_beat
    if _last_beat and time.monotonic() - _last_beat < _SECONDS_BETWEEN_BEATS:
        return
    _write(WORKER, since=str(late_after))
    _last_beat = time.monotonic()
    observers.beat()


@contextmanager
def beating(late_after: int = LATE_WATCHING_SECONDS) -> Iterator[None]:
    """A context manager that beats in a thread, for a worker that may wait for the other system
    without writing anything. Enter the context manager for each step of the work: its thread stops
    beating after ten minutes, so that a worker that hangs is reported as not running."""
    ended = threading.Event()
    thread = threading.Thread(target=_beat_until, args=(ended, late_after), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _beat_until(ended: threading.Event, late_after: int) -> None:
    """Beats until ``ended`` is set, for ten minutes at most."""
    until = time.monotonic() + _MAX_WAIT_SECONDS
    try:
        while not ended.wait(_SECONDS_BETWEEN_BEATS) and time.monotonic() < until:
            try:
                beat(late_after)
            except Error as error:  # the worker itself logs that the database does not answer
                log.debug("no heartbeat: %s", error)
                connections.close_all()
    finally:
        connections.close_all()  # each thread has connections of its own


def record_stop() -> None:
    """Records that a worker ended because it was told to. The next beat of another worker replaces
    this record."""
    _write(WORKER, since=str(STOPPED))


def record_sweep() -> None:
    """Records that a sweep has ended."""
    _write(SWEEP, since="")  # of a sweep, only the time is read


def _write(name: str, *, since: str) -> None:
    """Sets ``since`` and the current time in the ``Watermark`` of that name, which is created the
    first time."""
    values = {"since": since, "asked_at": moment()}
    if not Watermark.objects.filter(name=name).update(**values):
        Watermark.objects.bulk_create([Watermark(name=name, **values)], ignore_conflicts=True)


class Beat(NamedTuple):
    """seconds_ago: seconds since this beat. late_after: seconds after which the next beat is late;
    ``STOPPED`` if the worker ended because it was told to."""

    seconds_ago: float
    late_after: int


def newest_beat() -> Beat | None:
    """The newest beat of all workers; None when no worker has ever run."""
    row = Watermark.objects.filter(name=WORKER).first()
    if row is None:
        return None
    seconds_ago = (database_now() - row.asked_at).total_seconds()
    # A worker's ``since`` is no time: it holds ``late_after``.
    return Beat(max(0.0, seconds_ago), late_after=int(row.since))
