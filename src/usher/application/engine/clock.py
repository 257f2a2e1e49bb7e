"""One clock for all: that of the database.

Moments that another process compares with its own are told by it. A worker, or a web server, whose
clock is wrong would otherwise give out codes that are over already, or rows that are due tomorrow.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection
from django.utils import timezone


def database_now() -> datetime:
    """The moment by the database's clock; SQLite has none but this machine's."""
    if connection.vendor == "sqlite":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        found: datetime = cursor.fetchone()[0]
    return found
