"""When a worker was last alive: seconds after it stops, people can be told.

Kept among the watermarks, one row for all workers: the newest beat is what counts.
"""

from __future__ import annotations

import time

from usher.engine import observers
from usher.engine.clock import database_now, moment
from usher.engine.models import Watermark

WORKER, SWEEP = "worker", "sweep"
#: Between two beats of one process, and when silence means that it stopped.
_EVERY = 2.0
LATE_WATCHING = 30
#: Celery's workers beat when beat's sweep, once a minute, reaches one of them.
LATE_SWEEPING = 180

_last = 0.0


def beat(late_after: int = LATE_WATCHING) -> None:
    """This process works. late_after: seconds of silence after which nobody does."""
    global _last
    if _last and time.monotonic() - _last < _EVERY:
        return
    _write(WORKER, str(late_after))
    _last = time.monotonic()
    observers.beat()


def swept() -> None:
    """A sweep has ended."""
    _write(SWEEP, "")


def _write(what: str, since: str) -> None:
    """One statement, but for the first time."""
    values = {"since": since, "asked_at": moment()}
    if not Watermark.objects.filter(what=what).update(**values):
        Watermark.objects.bulk_create([Watermark(what=what, **values)], ignore_conflicts=True)


def seconds_ago() -> tuple[float, int] | None:
    """Since the newest beat, and after how many seconds that is late; None without any beat."""
    row = Watermark.objects.filter(what=WORKER).first()
    if row is None:
        return None
    return max(0.0, (database_now() - row.asked_at).total_seconds()), int(row.since)
