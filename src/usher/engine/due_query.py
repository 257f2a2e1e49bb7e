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
KindAndLane = tuple[Kind, Lane | None]


class DueQuery:
    """The query for these kinds and this scope. interactive: further kinds, of which all rows of
    the interactive lane are included, whatever the scope."""

    def __init__(
        self, kinds: Sequence[Kind], scope: Scope, interactive: Sequence[Kind] = ()
    ) -> None:
        #: What the query checks: due rows of this kind and lane for which this condition holds.
        self._checks: list[tuple[KindAndLane, Q]] = []
        for kind in kinds:
            condition = scope.condition_for(kind)
            if condition is None:  # no row of this kind is in the scope
                continue
            if condition:  # few rows are left, so that one check can cover all lanes
                self._checks.append(((kind, None), condition))
            else:  # all rows: a check for each lane can use the queue's index
                self._checks += [((kind, lane), Q()) for lane in Lane]
        self._checks += [((kind, Lane.INTERACTIVE), Q()) for kind in interactive]
        self._statement: tuple[str, list[Any]] | None = None
        #: SQLite only: the time in the compiled statement, which each execution replaces.
        self._compiled_at: Any = None

    def due(self) -> set[KindAndLane]:
        """The kinds and lanes in which rows are due."""
        if not self._checks:
            return set()
        if self._statement is None:
            self._statement = self._sql()
        sql, parameters = self._statement
        if self._compiled_at is not None:
            now = connection.ops.adapt_datetimefield_value(database_now())
            parameters = [now if value == self._compiled_at else value for value in parameters]
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            answers = cursor.fetchone()
        return {
            kind_and_lane
            for (kind_and_lane, _), is_due in zip(self._checks, answers, strict=True)
            if is_due
        }

    def _sql(self) -> tuple[str, list[Any]]:
        """The statement, with a column EXISTS (…) for each check, and its parameters."""
        columns: list[str] = []
        parameters: list[Any] = []
        now: Any = moment()
        if connection.vendor == "sqlite":
            self._compiled_at = connection.ops.adapt_datetimefield_value(now.value)
        for (kind, lane), condition in self._checks:
            query = _first_due(kind, lane, condition, now).query
            sql, parameters_of_query = query.sql_with_params()
            columns.append(f"EXISTS ({sql})")
            parameters += parameters_of_query
        return f"SELECT {', '.join(columns)}", parameters


def _first_due(kind: Kind, lane: Lane | None, condition: Q, now: Any) -> Any:
    """A query for at most one due row that meets the condition or, without a condition, for one in
    this lane."""
    if condition:
        return kind.rows().filter(condition).due(now).order_by().values("pk")[:1]
    return due(kind.name, now).filter(lane=lane).order_by().values("pk")[:1]


def count_due(kinds: Sequence[Kind], *, most: int) -> dict[str, int]:
    """A kind's name → how many of its rows are due, at most ``most``. Uses one statement."""
    columns: list[str] = []
    parameters: list[Any] = []
    now = moment()
    for kind in kinds:
        # Listing the lanes lets the database use the queue's index.
        rows = due(kind.name, now).filter(lane__in=Lane.values).order_by().values("pk")[:most]
        sql, parameters_of_kind = rows.query.sql_with_params()
        columns.append(f"(SELECT COUNT(*) FROM ({sql}) AS due)")  # noqa: S608
        parameters += parameters_of_kind
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(columns)}", parameters)
        counts = cursor.fetchone()
    return {kind.name: count for kind, count in zip(kinds, counts, strict=True)}
