"""One clock for all processes: the database's.

All timestamps that several processes compare come from this clock. Otherwise a worker or web server
with a wrong clock would issue codes that have expired, or make rows due tomorrow. ``elapsed``
measures durations within one process.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, Func, Value
from django.utils import timezone


def database_now() -> datetime:
    """The database's current time, aware; with SQLite, this machine's."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def moment(seconds: float = 0.0) -> Any:
    """An expression for the time ``seconds`` after the start of the statement that contains it.
    Unlike ``database_now``, the expression needs no statement of its own."""
    if connection.vendor == "sqlite":
        return Value(database_now() + timedelta(seconds=seconds), DateTimeField())
    now = Func(function="STATEMENT_TIMESTAMP", output_field=DateTimeField())
    if not seconds:
        return now
    return ExpressionWrapper(now + Value(timedelta(seconds=seconds)), DateTimeField())


def elapsed() -> float:
    """Seconds since some moment in the past, for the ends of leases. Where the operating system has
    such a clock, as Linux has, the time for which the machine sleeps counts too. It does not count
    for ``time.monotonic``, although leases end in the database meanwhile."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
