"""The reconciled rows after a step, read without Django's models."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from simulation.threads import BEGIN

#: The columns that the rows of every kind and their work have: name → SQL.
COMMON_COLUMNS = {
    "generation": "generation",
    "observed_generation": "observed_generation",
    "attempts": "coalesce(work.attempts, 0)",
    "due_at": "work.due_at",
    "lease_owner": "coalesce(work.lease_owner, '')",
    "lease_until": "work.lease_until",
    "error_class": "coalesce(work.error_class, '')",
    "error_code": "coalesce(work.error_code, '')",
    "error_message": "coalesce(work.error_message, '')",
    "refused_at": "work.refused_at",
}
#: Kind → further columns of its rows.
OWN_COLUMNS = {
    "account": ("user_id", "username", "is_active", "created_in_lms_at", "observed_is_active"),
    "token": ("user_id", "access_token", "expires_at"),
    "run": ("course_key", "title", "missing_since", "digest", "enrollment_end"),
    "mode": ("run_id",),
    "enrollment": ("user_id", "run_id", "mode", "is_active", "observed_mode", "force"),
    "profile": ("user_id", "name", "country", "email"),
    "retirement": ("username", "reserved_at"),
}
Row = dict[str, Any]
Rows = dict[str, dict[int, Row]]


@dataclass
class Records:
    """The reconciled rows of the database. rows: kind → primary key → row, as of the last
    ``refresh``."""

    rows: Rows = field(default_factory=lambda: {name: {} for name in OWN_COLUMNS})
    #: The earliest virtual time at which a row is due.
    due_at: float = float("inf")
    #: SQLite's number of changed rows at the last ``refresh``.
    _writes: int = -1
    #: Kind → the SQL of ``_query``.
    _queries: dict[str, str] = field(default_factory=dict)

    def refresh(self) -> Rows | None:
        """Read the rows again if anything was written since the last call, update ``due_at``, and
        return the earlier rows; otherwise return None."""
        from django.db import connection

        raw = connection.connection
        if raw.total_changes == self._writes:
            return None
        self._writes = raw.total_changes
        earlier_rows, self.rows = self.rows, {}
        for kind, own_columns in OWN_COLUMNS.items():
            names = ("id", *COMMON_COLUMNS, *own_columns)
            raw_rows = raw.execute(self._query(kind)).fetchall()
            self.rows[kind] = {
                values[0]: dict(zip(names, values, strict=True)) for values in raw_rows
            }
        self.due_at = min(
            (_due_time(row) for rows in self.rows.values() for row in rows.values()),
            default=float("inf"),
        )
        return earlier_rows

    def due_kinds(self, now: float) -> list[str]:
        """Kinds with a due row that no worker has claimed."""
        return [
            kind
            for kind, rows in self.rows.items()
            if any(_due_time(row) <= now for row in rows.values())
        ]

    def _query(self, kind: str) -> str:
        """The SQL that reads the rows of this kind with their work."""
        if kind not in self._queries:
            from usher.engine.registry import all_kinds

            table = all_kinds()[kind].model._meta.db_table
            columns = (f"{table}.id", *COMMON_COLUMNS.values(), *OWN_COLUMNS[kind])
            self._queries[kind] = (
                f"SELECT {', '.join(columns)} FROM {table} LEFT JOIN usher_engine_work work "
                f"ON work.kind = '{kind}' AND work.object_id = {table}.id ORDER BY {table}.id"
            )
        return self._queries[kind]

    def account_of(self, user_id: int) -> Row | None:
        accounts = self.rows["account"].values()
        return next((row for row in accounts if row["user_id"] == user_id), None)


def _due_time(row: Row) -> float:
    """The virtual time from which a worker can claim the row; infinite if it is not due. A row
    that is claimed is due when its lease ends."""
    if not row["due_at"]:
        return float("inf")
    return max(seconds(row["due_at"]), seconds(row["lease_until"], default=0.0))


def seconds(timestamp: Any, *, default: float = float("inf")) -> float:
    """A timestamp of the database as virtual time, in seconds; ``default`` if there is none."""
    if not timestamp:
        return default
    is_text = not isinstance(timestamp, datetime)
    moment = datetime.fromisoformat(str(timestamp)) if is_text else timestamp
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - BEGIN).total_seconds()
