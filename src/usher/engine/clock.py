"""One clock for all: that of the database.

Moments that another process compares with its own are told by it. A worker, or a web server, whose
clock is wrong would otherwise give out codes that are over already, or rows that are due tomorrow.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, Func, Value
from django.utils import timezone


def database_now() -> datetime:
    """The moment by the database's clock; SQLite has none but this machine's."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
    return found


def moment(seconds: float = 0.0) -> Any:
    """The same as an expression, so many seconds from the start of the statement that holds it: no
    statement of its own is needed to ask for it."""
    if connection.vendor == "sqlite":
        return Value(database_now() + timedelta(seconds=seconds), DateTimeField())
    now = Func(function="STATEMENT_TIMESTAMP", output_field=DateTimeField())
    if not seconds:
        return now
    return ExpressionWrapper(now + Value(timedelta(seconds=seconds)), DateTimeField())
