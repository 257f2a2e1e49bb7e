"""Counts rows of large tables at a constant cost: exactly up to a limit, estimated beyond it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Max, QuerySet

#: The most rows that are counted exactly.
MAX_EXACT_COUNT = 10_000


@dataclass(frozen=True)
class Count:
    """A number of rows. is_estimate: whether the number is an estimate or a lower bound."""

    value: int
    is_estimate: bool = False

    def __str__(self) -> str:
        """For people: ``1,234``, ``about 2.3 million``."""
        if not self.is_estimate:
            return f"{self.value:,}"
        if self.value >= 1_000_000_000:
            return f"about {self.value / 1_000_000_000:.1f} billion"
        if self.value >= 1_000_000:
            return f"about {self.value / 1_000_000:.1f} million"
        return f"about {self.value:,}"

    def __bool__(self) -> bool:
        return self.value > 0

    def __add__(self, other: Count) -> Count:
        return Count(self.value + other.value, self.is_estimate or other.is_estimate)


def count_rows(rows: QuerySet[Any], limit: int = MAX_EXACT_COUNT) -> Count:
    """Returns the number of rows: counted up to ``limit``; beyond it, the query planner's estimate
    or, without one, ``limit`` plus 1 as a lower bound."""
    count = rows.order_by()[: limit + 1].count()
    if count <= limit:
        return Count(count)
    return Count(max(count, _estimate_by_plan(rows)), is_estimate=True)


def count_all_rows(model: type[Any]) -> Count:
    """Returns the number of rows of a table. For a large table, this is the estimate in the
    database's statistics; without a current estimate, the largest key."""
    estimate = _estimate_by_statistics(model)
    if estimate > MAX_EXACT_COUNT:
        return Count(estimate, is_estimate=True)
    count = model._default_manager.order_by()[: MAX_EXACT_COUNT + 1].count()
    if count <= MAX_EXACT_COUNT:
        return Count(count)
    # The estimate is too old, or the database makes none: the largest key replaces the estimate.
    largest_key = model._default_manager.aggregate(largest=Max("pk"))["largest"]
    return Count(max(count, int(largest_key or 0)), is_estimate=True)


def _estimate_by_statistics(model: type[Any]) -> int:
    """The number of rows in PostgreSQL's statistics; -1 before the table's first statistics, 0 with
    other databases."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass",
            [connection.ops.quote_name(model._meta.db_table)],
        )
        return int(cursor.fetchone()[0])


def _estimate_by_plan(rows: QuerySet[Any]) -> int:
    """The number of rows that PostgreSQL's planner expects; 0 with other databases."""
    if connection.vendor != "postgresql":
        return 0
    plan: Any = rows.order_by().values("pk").explain(format="json")
    return int(json.loads(plan)[0]["Plan"]["Plan Rows"])
