"""Options of a SQLite database that several processes write to."""

from __future__ import annotations

from typing import Any

SQLITE = "django.db.backends.sqlite3"


def sqlite_options() -> dict[str, Any]:
    """``OPTIONS`` of a SQLite database with which readers don't wait for a writer, and writers wait
    for each other."""
    return {
        # A transaction that reads first and writes later would fail immediately, not wait,
        # when another wrote in between; taking the lock at its start makes it wait.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
