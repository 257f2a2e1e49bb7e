"""The engine's transactions: they are repeated after a deadlock, and never open during a
request."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import OperationalError, connection, transaction

T = TypeVar("T")

_MAX_TRIES = 6
#: PostgreSQL's codes of transient errors: serialization failure, deadlock, lock not available.
_TRANSIENT = {"40001", "40P01", "55P03"}
_SQLITE_BUSY = "database is locked"


class InTransaction(RuntimeError):
    """The caller tried to reconcile within a database transaction."""

    def __init__(self, alternative: str = "") -> None:
        """alternative: what else the caller can do, ending in a comma; '' for nothing."""
        super().__init__(
            "Nothing can be reconciled within a database transaction: before the other system "
            "answers, it sends requests to this application, which can't see uncommitted changes. "
            f"Call this in transaction.on_commit(), {alternative}or decorate the view with "
            "transaction.non_atomic_requests (ATOMIC_REQUESTS)."
        )


def refuse_within_transaction(alternative: str = "") -> None:
    """Raises InTransaction within a transaction; not within the transaction of Django's TestCase.
    alternative: as for InTransaction."""
    blocks = connection.atomic_blocks
    if blocks and not getattr(blocks[-1], "_from_testcase", False):
        raise InTransaction(alternative)


def refuse_reconcile_now() -> None:
    """``refuse_within_transaction`` for a function that was called with ``reconcile_now``: the
    error also advises to leave this argument out."""
    refuse_within_transaction("leave out reconcile_now so that a worker does it, ")


def retry_transaction(act: Callable[[], T]) -> T:
    """Calls ``act`` in a transaction, up to six times if the database aborts it because of a
    deadlock or a lock. Returns its result; raises OperationalError if the last attempt fails too.

    Within the caller's transaction it calls ``act`` only once: a deadlock aborts that transaction
    as a whole.
    """
    tries = 1 if connection.in_atomic_block else _MAX_TRIES
    for attempt in range(1, tries):
        try:
            with transaction.atomic():
                return act()
        except OperationalError as error:
            if not _is_transient(error):
                raise
            # A random time, so that two transactions that aborted each other don't meet again.
            time.sleep(random.uniform(0.0, 0.02 * 2**attempt))  # noqa: S311 - no secret
    with transaction.atomic():
        return act()


def _is_transient(error: OperationalError) -> bool:
    code = getattr(error.__cause__, "sqlstate", None)
    return code in _TRANSIENT or _SQLITE_BUSY in str(error)
