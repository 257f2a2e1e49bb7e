"""Options of a SQLite database that several processes write to."""

from __future__ import annotations

from typing import Any

SQLITE = "django.db.backends.sqlite3"


def sqlite_options() -> dict[str, Any]:
    """``OPTIONS`` of a SQLite database: readers don't wait for a writer, and a writer waits up to
    20 seconds for another one."""
    return {
        # By default, a transaction that reads first and writes later fails immediately if another
        # transaction wrote in between. With IMMEDIATE a transaction takes the lock at its start,
        # and waits for it.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
