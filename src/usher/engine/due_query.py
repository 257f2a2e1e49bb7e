"""Finds the kinds and lanes that have due rows, by one statement that takes no locks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection
from django.db.models import Q

from usher.engine.claim import Scope
from usher.engine.clock import database_now, moment
from usher.engine.kinds import Kind
from usher.engine.lanes import Lane
from usher.engine.work import due

#: A kind and one of its lanes; None for any lane, used where a scope leaves only a few rows.
Due = tuple[Kind, Lane | None]


class DueQuery:
    """The query for these kinds and this scope. interactive: kinds of which only the interactive
    lane is included, whatever the scope."""

    def __init__(
        self, kinds: Sequence[Kind], scope: Scope, interactive: Sequence[Kind] = ()
    ) -> None:
        self._wanted: list[tuple[Due, Q]] = []
        for kind in kinds:
            condition = scope.of(kind)
            if condition:
                self._wanted.append(((kind, None), condition))
            elif condition is not None:
                self._wanted += [((kind, lane), Q()) for lane in Lane]
        self._wanted += [((kind, Lane.INTERACTIVE), Q()) for kind in interactive]
        self._statement: tuple[str, list[Any]] | None = None
        #: SQLite only: the time in the compiled statement, which each execution replaces.
        self._compiled_at: Any = None

    def due(self) -> set[Due]:
        """The kinds and lanes in which rows are due."""
        if not self._wanted:
            return set()
        if self._statement is None:
            self._statement = self._sql()
        sql, values = self._statement
        if self._compiled_at is not None:
            now = connection.ops.adapt_datetimefield_value(database_now())
            values = [now if value == self._compiled_at else value for value in values]
        with connection.cursor() as cursor:
            cursor.execute(sql, values)
            row = cursor.fetchone()
        return {due for (due, _), is_due in zip(self._wanted, row, strict=True) if is_due}

    def _sql(self) -> tuple[str, list[Any]]:
        columns: list[str] = []
        values: list[Any] = []
        now: Any = moment()
        if connection.vendor == "sqlite":
            self._compiled_at = connection.ops.adapt_datetimefield_value(now.value)
        for (kind, lane), condition in self._wanted:
            sql, more = _first(kind, lane, condition, now).query.sql_with_params()
            columns.append(f"EXISTS ({sql})")
            values += more
        return f"SELECT {', '.join(columns)}", values


def _first(kind: Kind, lane: Lane | None, condition: Q, now: Any) -> Any:
    """A query for at most one due row."""
    if condition:
        return kind.rows().filter(condition).due(now).order_by().values("pk")[:1]
    return due(kind.name, now).filter(lane=lane).order_by().values("pk")[:1]


def count_due(kinds: Sequence[Kind], most: int) -> dict[str, int]:
    """A kind's name → how many of its rows are due, counted up to ``most``. One statement."""
    columns: list[str] = []
    values: list[Any] = []
    now = moment()
    for kind in kinds:
        # Listing the lanes lets the database use the queue's index.
        rows = due(kind.name, now).filter(lane__in=Lane.values).order_by().values("pk")[:most]
        sql, more = rows.query.sql_with_params()
        columns.append(f"(SELECT COUNT(*) FROM ({sql}) AS due)")  # noqa: S608
        values += more
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)}", values)
        row = cursor.fetchone()
    return {kind.name: count for kind, count in zip(kinds, row, strict=True)}
