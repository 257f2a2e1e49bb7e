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
#: MySQL's numbers of errors after which a retry may succeed: deadlock, lock wait timeout, savepoint
#: does not exist.
TRANSIENT_ERROR_NUMBERS = frozenset({1213, 1205, 1305})


def run_with_retries(process: Callable[[], Any]) -> Any:
    """Calls ``process()`` in a transaction with a savepoint, and returns its result.

    Repeats the transaction after a deadlock or lock timeout, up to ``MAX_ATTEMPTS`` attempts in
    all, and once after an IntegrityError, since another request may have inserted the same row.
    Raises what ``process`` raises; then nothing was changed.
    """
    for attempt in range(1, MAX_ATTEMPTS + 1):
        savepoint_lost = False
        try:
            with transaction.atomic():
                try:
                    with transaction.atomic():
                        return process()
                except Exception:
                    # Django could not return to the savepoint. The error may be a consequence of
                    # the rollback, such as a reference to a row that no longer exists.
                    savepoint_lost = connection.needs_rollback
                    raise
        except Exception as error:
            # The platform caches values that it has just written, such as enrollments, for the rest
            # of the request; after the rollback the cache is wrong.
            RequestCache.clear_all_namespaces()
            is_first_conflict = attempt == 1 and isinstance(error, IntegrityError)
            may_succeed = savepoint_lost or is_first_conflict or is_transient(error)
            if attempt == MAX_ATTEMPTS or not may_succeed:
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
    except DatabaseError as error:
        if not isinstance(error, IntegrityError) and not is_transient(error):
            raise
        raise DatabaseBusy(
            f"nothing was changed: the LMS's database answered {error}. Something else may be "
            "changing the same rows; try again"
        ) from error


def is_transient(error: Exception) -> bool:
    """Whether a retry may succeed: the error is a deadlock, a lock timeout, or a missing savepoint,
    which shows that a receiver swallowed one of these."""
    if not isinstance(error, DatabaseError):
        return False
    number = error.args[0] if error.args else None
    lost_savepoint = (
        isinstance(error, TransactionManagementError) or "savepoint" in str(error).lower()
    )
    return number in TRANSIENT_ERROR_NUMBERS or lost_savepoint
