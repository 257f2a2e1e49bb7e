"""Records when a worker was last alive, so that its absence is reported within seconds.

It is one row of ``Watermark`` for all workers, with the time of the newest beat.
"""

from __future__ import annotations

import time

from usher.engine import observers
from usher.engine.clock import database_now, moment
from usher.engine.models import Watermark

WORKER, SWEEP = "worker", "sweep"
#: Seconds between two beats of one process.
_EVERY = 2.0
#: Seconds without a beat after which no worker is assumed to run: ``watch`` beats all the time.
LATE_WATCHING = 30
#: The same for Celery's workers, which beat with the sweep that Celery beat sends once a minute.
LATE_SWEEPING = 180

_last = 0.0


def beat(late_after: int = LATE_WATCHING) -> None:
    """Records that a worker is running; at most once in two seconds. late_after: seconds without
    another beat after which no worker is assumed to run."""
    global _last
    if _last and time.monotonic() - _last < _EVERY:
        return
    _write(WORKER, str(late_after))
    _last = time.monotonic()
    observers.beat()


def swept() -> None:
    """Records that a sweep has ended."""
    _write(SWEEP, "")


def _write(what: str, since: str) -> None:
    """Updates the row of that name, or creates it the first time."""
    values = {"since": since, "asked_at": moment()}
    if not Watermark.objects.filter(what=what).update(**values):
        Watermark.objects.bulk_create([Watermark(what=what, **values)], ignore_conflicts=True)


def seconds_ago() -> tuple[float, int] | None:
    """Seconds since the newest beat, and the number of seconds after which that is late; None when
    no worker has ever run."""
    row = Watermark.objects.filter(what=WORKER).first()
    if row is None:
        return None
    return max(0.0, (database_now() - row.asked_at).total_seconds()), int(row.since)
