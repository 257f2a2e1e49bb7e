"""Repeats transactions that failed because of other transactions.

Each transaction has a savepoint around all of its statements. MySQL rolls back the whole
transaction at a deadlock. If a receiver of the platform swallows that error, the next statements
run as if nothing had happened. The deadlock has also removed the savepoint, so releasing it at the
end fails, and the transaction is repeated.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError
from edx_django_utils.cache import RequestCache

from usher.lms.errors import DatabaseBusy

log = logging.getLogger(__name__)

#: Attempts for one transaction, and the shortest and longest pause after the first attempt, in
#: seconds. The pause after the second attempt is twice as long, and so on.
MAX_ATTEMPTS, SHORTEST_PAUSE, LONGEST_PAUSE = 4, 0.01, 0.05
#: A transaction is not repeated after this many seconds: waiting for a lock may take most of a
#: minute, and the process can't answer other requests meanwhile.
MAX_SECONDS = 10.0
#: MySQL's numbers of errors after which a retry may succeed: deadlock, lock wait timeout, savepoint
#: does not exist; server shuts down, no connection, connection lost, connection killed.
BUSY_ERROR_NUMBERS = frozenset({1213, 1205, 1305, 1053, 2002, 2003, 2006, 2013, 1927})
#: The error of SQLite, which the embedded LMS uses, after waiting for a lock.
_SQLITE_IS_LOCKED = "database is locked"
_BUSY = (
    "nothing was changed: the LMS's database answered {error}. Something else may be changing the "
    "same rows; try again"
)


def run_with_retries(process: Callable[[], Any]) -> Any:
    """Calls ``process()`` in a transaction with a savepoint, and returns its result.

    Repeats the transaction after a deadlock, lock timeout, lost connection or lost savepoint, up to
    ``MAX_ATTEMPTS`` attempts in all and not after ``MAX_SECONDS``; and once after an
    IntegrityError, since another request may have inserted the same row. Raises what ``process``
    raises, and DatabaseBusy if the error of the last attempt shows that the database was busy. Then
    nothing was changed, unless the connection was lost during the commit.
    """
    began = time.monotonic()
    for attempt in range(1, MAX_ATTEMPTS + 1):
        savepoint_lost = False
        try:
            with transaction.atomic():
                try:
                    with transaction.atomic():
                        return process()
                except Exception:
                    # Whether Django could not return to the savepoint. If so, the error may only
                    # be a consequence of the rollback, such as a reference to a row that no longer
                    # exists.
                    savepoint_lost = connection.needs_rollback
                    raise
        except Exception as error:
            # The platform caches values that it has just written, such as enrollments, for the rest
            # of the request; after the rollback the cache is wrong.
            RequestCache.clear_all_namespaces()
            is_first_conflict = attempt == 1 and isinstance(error, IntegrityError)
            may_succeed = savepoint_lost or is_first_conflict or _is_transient(error)
            is_last = attempt == MAX_ATTEMPTS or time.monotonic() - began > MAX_SECONDS
            if is_last and _shows_busy_database(error):
                raise DatabaseBusy(_BUSY.format(error=error)) from error
            if is_last or not may_succeed:
                raise
            log.info("Repeating a transaction after attempt %d: %s", attempt, error)
            pause = random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)  # noqa: S311 - spreads load
            time.sleep(pause * attempt)
    raise AssertionError("unreachable")


def run_for_command(process: Callable[[], Any]) -> Any:
    """``run_with_retries`` for a management command. Within a transaction it only calls
    ``process()``: the caller repeats its whole transaction. Raises what ``process`` raises, and
    DatabaseBusy if other transactions changed or locked the same rows at each attempt."""
    if connection.in_atomic_block:
        return process()
    try:
        return run_with_retries(process)
    except IntegrityError as error:
        raise DatabaseBusy(_BUSY.format(error=error)) from error


def _is_transient(error: Exception) -> bool:
    """Whether a retry may succeed: the database was busy, or the savepoint is missing, which shows
    that a receiver swallowed such an error."""
    lost_savepoint = isinstance(error, TransactionManagementError) or (
        isinstance(error, DatabaseError) and "savepoint" in str(error).lower()
    )
    return lost_savepoint or _shows_busy_database(error)


def _shows_busy_database(error: Exception) -> bool:
    """Whether the error is a deadlock, a lock timeout or a lost connection, and not the fault of
    what was written."""
    if not isinstance(error, DatabaseError):
        return False
    number = error.args[0] if error.args else None
    return number in BUSY_ERROR_NUMBERS or str(error) == _SQLITE_IS_LOCKED
