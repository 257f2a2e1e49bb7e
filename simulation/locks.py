"""Checks the order in which transactions lock the tables of reconciled rows.

SQLite has one writer at a time, so transactions never wait for each other. On PostgreSQL, when one
transaction locks accounts before enrollments and another the other way round, they deadlock and one
is aborted. So the order itself is checked, as the Linux kernel's lockdep does: every pair of tables
must always be locked in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_WRITES = re.compile(r'^(?:UPDATE|DELETE FROM) "(\w+)"')
_READS = re.compile(r' FROM "(\w+)"')
#: The table of the work queue. Its rows count as one table for each kind of record.
_WORK = "usher_engine_work"
#: The first parameter of this statement is the kind.
_INSERTS_WORK = re.compile(rf'^INSERT INTO "{_WORK}" AS work ')
_FOR_UPDATE = re.compile(r" FOR UPDATE( SKIP LOCKED)?")


class LockOrderBroken(AssertionError):
    """Two transactions lock these tables in different orders and can deadlock."""


class Locks:
    """tables: kind → table to check. watch: returns whether to check the current transaction.
    between: called before and after a write that is a transaction of its own. report: called with
    the violation, because the code under test could catch an exception."""

    def __init__(
        self,
        tables: Mapping[str, str],
        watch: Callable[[], bool],
        between: Callable[[], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._tables = tables
        self._watch = watch
        self._between = between
        self._report = report
        self._held: list[str] = []
        self._orders: dict[tuple[str, str], str] = {}

    def transaction_ended(self) -> None:
        self._held.clear()

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Wraps the execution of every statement, and removes FOR UPDATE, which SQLite does not
        support."""
        waits, table, kind = True, "", ""
        if match := _FOR_UPDATE.search(sql):
            waits = not match[1]
            sql = _FOR_UPDATE.sub("", sql)
            if of_table := _READS.search(sql):
                table = of_table[1]
                kind = table if _WORK in sql else ""
        elif writes := _WRITES.match(sql):
            table = writes[1]
        elif _INSERTS_WORK.match(sql):
            table = self._tables.get(params[0], "")
            kind, table = table, ""
        if not context["connection"].in_atomic_block:
            if not (table or kind):
                return execute(sql, params, many, context)
            self._between()
            match = execute(sql, params, many, context)
            if "RETURNING" not in sql:  # otherwise the rows are not read yet
                self._between()
            return match
        if self._watch():
            if table in self._tables.values():
                self._lock(table, waits=waits)
            if kind in self._tables.values():
                self._lock(f"the work of {kind}", waits=waits)
        return execute(sql, params, many, context)

    def _lock(self, table: str, *, waits: bool) -> None:
        if table in self._held:
            return
        for earlier in self._held if waits else ():
            self._orders.setdefault((earlier, table), "")
            if (table, earlier) in self._orders:
                words = (
                    f"one transaction locks {earlier} and then waits for {table}; another one "
                    f"locks {table} and then waits for {earlier}"
                )
                self._report(LockOrderBroken(words))
        self._held.append(table)
