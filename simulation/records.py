"""The sync worker's rows as they are after a step, read without Django's models."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from simulation.threads import BEGIN

#: The columns that all reconciled rows and their work have: name → column.
COMMON = {
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
OWN = {
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
    """rows: kind → primary key → row, as of the last ``refresh``."""

    rows: Rows = field(default_factory=lambda: {name: {} for name in OWN})
    #: The earliest virtual time at which a row is due.
    due_at: float = float("inf")
    _writes: int = -1
    _queries: dict[str, str] = field(default_factory=dict)

    def refresh(self) -> Rows | None:
        """Read the rows again if anything was written since the last call, and return the earlier
        rows; otherwise return None."""
        from django.db import connection

        raw = connection.connection
        if raw.total_changes == self._writes:
            return None
        self._writes = raw.total_changes
        before, self.rows = self.rows, {}
        for name, own in OWN.items():
            columns = ("id", *COMMON, *own)
            raw_rows = raw.execute(self._query(name)).fetchall()
            self.rows[name] = {
                values[0]: dict(zip(columns, values, strict=True)) for values in raw_rows
            }
        self.due_at = min(
            (
                max(seconds(row["due_at"]), seconds(row["lease_until"], 0.0))
                for rows in self.rows.values()
                for row in rows.values()
                if row["due_at"]
            ),
            default=float("inf"),
        )
        return before

    def due_kinds(self, now: float) -> list[str]:
        """Kinds with a due row that no worker has claimed."""
        return [
            kind
            for kind, rows in self.rows.items()
            if any(
                row["due_at"]
                and seconds(row["due_at"]) <= now
                and seconds(row["lease_until"], 0.0) <= now
                for row in rows.values()
            )
        ]

    def _query(self, name: str) -> str:
        if not self._queries:
            from usher.engine.registry import all_kinds

            for each, own in OWN.items():
                table = all_kinds()[each].model._meta.db_table
                columns = ", ".join((f"{table}.id", *COMMON.values(), *own))
                self._queries[each] = (
                    f"SELECT {columns} FROM {table} LEFT JOIN usher_engine_work work "
                    f"ON work.kind = '{each}' AND work.object_id = {table}.id ORDER BY {table}.id"
                )
        return self._queries[name]

    def account_of(self, user_id: int) -> Row | None:
        accounts = self.rows["account"].values()
        return next((row for row in accounts if row["user_id"] == user_id), None)


def seconds(text: Any, otherwise: float = float("inf")) -> float:
    """A timestamp of the database as virtual time, in seconds; ``otherwise`` if there is none."""
    if not text:
        return otherwise
    moment = text if isinstance(text, datetime) else datetime.fromisoformat(str(text))
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - BEGIN).total_seconds()
