"""Checks the order in which transactions lock the tables of reconciled rows.

SQLite has one writer at a time, so transactions never wait for each other. On PostgreSQL, two
transactions deadlock if one locks accounts before enrollments, and the other locks enrollments
before accounts; one of them is then aborted. So the order itself is checked, as the Linux kernel's
lockdep does: every pair of tables must always be locked in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_WRITTEN_TABLE = re.compile(r'^(?:UPDATE|DELETE FROM) "(\w+)"')
_READ_TABLE = re.compile(r' FROM "(\w+)"')
#: The table of the work queue. Its rows count as one table for each kind of record.
_WORK = "usher_engine_work"
#: The first parameter of this statement is the kind.
_INSERTS_WORK = re.compile(rf'^INSERT INTO "{_WORK}" AS work ')
_FOR_UPDATE = re.compile(r" FOR UPDATE(?P<skip_locked> SKIP LOCKED)?")


class LockOrderBroken(AssertionError):
    """Two transactions lock these tables in different orders and can deadlock."""


class Locked(NamedTuple):
    """What a statement locks: rows of the table ``table``, and the rows of the work queue that
    belong to rows of the table ``work_of``; '' for none."""

    table: str = ""
    work_of: str = ""


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
        locked = self._locked_by(sql, params)
        sql_for_sqlite = _FOR_UPDATE.sub("", sql)
        if context["connection"].in_atomic_block:
            if self._is_watched():
                self._record(locked, sql)
            return execute(sql_for_sqlite, params, many, context)
        if locked == Locked():  # the statement writes nothing
            return execute(sql_for_sqlite, params, many, context)
        self._let_others_run()
        result = execute(sql_for_sqlite, params, many, context)
        if "RETURNING" not in sql:  # otherwise the rows are not read yet
            self._let_others_run()
        return result

    def _locked_by(self, sql: str, params: Any) -> Locked:
        if _FOR_UPDATE.search(sql):
            match = _READ_TABLE.search(sql)
            table = match[1] if match else ""
            return Locked(table, work_of=table if _WORK in sql else "")
        if match := _WRITTEN_TABLE.match(sql):
            return Locked(match[1])
        if _INSERTS_WORK.match(sql):
            return Locked(work_of=self._tables.get(params[0], ""))
        return Locked()

    def _record(self, locked: Locked, sql: str) -> None:
        """Records what the statement ``sql`` locks, if it is in the tables to check."""
        for_update = _FOR_UPDATE.search(sql)
        skips_locked_rows = for_update is not None and for_update["skip_locked"] is not None
        if locked.table in self._tables.values():
            self._lock(locked.table, waits=not skips_locked_rows)
        if locked.work_of in self._tables.values():
            self._lock(f"the work of {locked.work_of}", waits=not skips_locked_rows)

    def _lock(self, table: str, *, waits: bool) -> None:
        """Records a lock, and reports it if another transaction took the same locks in the opposite
        order. waits: False for SKIP LOCKED, which never waits for another transaction."""
        if table in self._held:
            return
        if waits:
            for earlier in self._held:
                self._check_order(earlier, table)
        self._held.append(table)

    def _check_order(self, earlier: str, later: str) -> None:
        """Records that a transaction locked one table before the other one."""
        self._orders.add((earlier, later))
        if (later, earlier) in self._orders:
            violation = (
                f"one transaction locks {earlier} and then waits for {later}; another one "
                f"locks {later} and then waits for {earlier}"
            )
            self._report(LockOrderBroken(violation))
