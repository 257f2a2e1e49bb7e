"""Checks the order in which transactions lock the tables of reconciled rows.

SQLite has one writer at a time, so transactions never wait for each other. On PostgreSQL, two
transactions deadlock if one locks accounts before enrollments, and the other locks enrollments
before accounts; one of them is then aborted. So the order itself is checked, as the Linux kernel's
lockdep does: every pair of tables must always be locked in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_WRITTEN_TABLE = re.compile(r'^(?:UPDATE|DELETE FROM) "(\w+)"')
_READ_TABLE = re.compile(r' FROM "(\w+)"')
#: The table of the work queue. Its rows count as one table for each kind of record.
_WORK = "usher_engine_work"
#: The first parameter of this statement is the kind.
_INSERTS_WORK = re.compile(rf'^INSERT INTO "{_WORK}" AS work ')
_FOR_UPDATE = re.compile(r" FOR UPDATE(?P<skip_locked> SKIP LOCKED)?")


class LockOrderBroken(AssertionError):
    """Two transactions lock these tables in different orders and can deadlock."""


class Locks:
    """Checks that all transactions of one seed lock tables in the same order: transactions which
    lock two tables in opposite orders can deadlock.

    tables: kind → table to check. is_watched: returns whether to check the current transaction.
    let_others_run: called before and after a write that is a transaction of its own. report: called
    with the violation, because the code under test could catch an exception.
    """

    def __init__(
        self,
        tables: Mapping[str, str],
        is_watched: Callable[[], bool],
        let_others_run: Callable[[], None],
        report: Callable[[Exception], None],
    ) -> None:
        self._tables = tables
        self._is_watched = is_watched
        self._let_others_run = let_others_run
        self._report = report
        #: Tables with a lock of the current transaction, in the order of their locks.
        self._held: list[str] = []
        #: Pairs of tables: a transaction locked the first one before the second one.
        self._orders: set[tuple[str, str]] = set()

    def transaction_ended(self) -> None:
        self._held.clear()

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        """Executes a statement without FOR UPDATE, which SQLite does not support. Records the locks
        that it would take on PostgreSQL, if it is in a transaction. Lets other threads run before
        and after a write that is a transaction of its own."""
        for_update = _FOR_UPDATE.search(sql)
        waits = not (for_update and for_update["skip_locked"])
        table, table_of_work = self._locked_tables(sql, params)
        sql = _FOR_UPDATE.sub("", sql)
        if not context["connection"].in_atomic_block:
            if not (table or table_of_work):
                return execute(sql, params, many, context)
            self._let_others_run()
            result = execute(sql, params, many, context)
            if "RETURNING" not in sql:  # otherwise the rows are not read yet
                self._let_others_run()
            return result
        if self._is_watched():
            if table in self._tables.values():
                self._lock(table, waits=waits)
            if table_of_work in self._tables.values():
                self._lock(f"the work of {table_of_work}", waits=waits)
        return execute(sql, params, many, context)

    def _locked_tables(self, sql: str, params: Any) -> tuple[str, str]:
        """The table whose rows the statement locks, and the table whose rows' work it locks; '' for
        none."""
        if _FOR_UPDATE.search(sql):
            match = _READ_TABLE.search(sql)
            table = match[1] if match else ""
            return table, table if _WORK in sql else ""
        if match := _WRITTEN_TABLE.match(sql):
            return match[1], ""
        if _INSERTS_WORK.match(sql):
            return "", self._tables.get(params[0], "")
        return "", ""

    def _lock(self, table: str, *, waits: bool) -> None:
        """Records a lock, and reports it if another transaction took the same locks in the opposite
        order. waits: False for SKIP LOCKED, which never waits for another transaction."""
        if table in self._held:
            return
        for earlier in self._held if waits else ():
            self._orders.add((earlier, table))
            if (table, earlier) in self._orders:
                violation = (
                    f"one transaction locks {earlier} and then waits for {table}; another one "
                    f"locks {table} and then waits for {earlier}"
                )
                self._report(LockOrderBroken(violation))
        self._held.append(table)
