"""Watches in which order transactions lock the tables of reconciled rows.

SQLite has one writer at a time, so no two transactions ever wait for each other. PostgreSQL's do:
when one locks accounts and then enrollments, and another the other way round, one of them is ended.
So the order itself is what is checked, as the Linux kernel's lockdep does: every pair of tables
is locked in one order only, whatever the interleaving.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_WRITES = re.compile(r'^(?:UPDATE|DELETE FROM) "(\w+)"')
_READS = re.compile(r' FROM "(\w+)"')
#: Work is locked by kind: the kind is the first value of what is written.
_WORK = "usher_engine_work"
_INSERTS_WORK = re.compile(rf'^INSERT INTO "{_WORK}" AS work ')
_FOR_UPDATE = re.compile(r" FOR UPDATE( SKIP LOCKED)?")


class LockOrderBroken(AssertionError):
    """Two transactions that lock these tables at the same time can end in a deadlock."""


class Locks:
    """tables: those that matter, by kind. watch: whether the transaction that runs now does.
    between: called before and after a write that is a transaction by itself. report: called with
    what is broken, which the code under test can't catch."""

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
        """Around every statement; SQLite does not know FOR UPDATE."""
        waits, table, kind = True, "", ""
        if found := _FOR_UPDATE.search(sql):
            waits = not found[1]
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
            found = execute(sql, params, many, context)
            if "RETURNING" not in sql:  # whose rows are not read yet
                self._between()
            return found
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
