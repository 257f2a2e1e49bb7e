"""Processes many items in short transactions, so that each outcome says what was committed and one
failing item does not fail the other items.

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

from usher.lms.errors import UsherLmsError

log = logging.getLogger(__name__)
Item = dict[str, Any]

#: With more items, rows would stay locked for longer; with only one item, the commit would cost
#: more than the item.
ITEMS_A_TRANSACTION = 25
#: Attempts for one transaction, and the shortest and longest pause after the first attempt, in
#: seconds. The pause after the second attempt is twice as long, and so on.
MAX_ATTEMPTS, SHORTEST_PAUSE, LONGEST_PAUSE = 4, 0.01, 0.05
#: MySQL's numbers of errors after which a retry may succeed: deadlock, lock wait timeout, savepoint
#: does not exist.
TRANSIENT_ERROR_NUMBERS = frozenset({1213, 1205, 1305})


class UncleanRefusal(Exception):
    """An item was refused after something had been written for it already. The transaction is
    rolled back; if it has several items, each is then processed in one of its own."""


def process_in_transactions(
    items: list[Item],
    process: Callable[[int, list[Item]], list[Item]],
    failed_outcome: Callable[[Item], Item],
    sort_key: Callable[[Item], Any],
) -> list[Item]:
    """The outcome of each item, in order.

    process: processes some items inside a transaction; gets the number of the first, and the items.
    failed_outcome: returns the outcome of an item that raised an unexpected exception. sort_key:
    returns the sort key of an item. Every request processes items in this order, so that concurrent
    requests seldom block each other. An UsherLmsError that ``process`` raises concerns the whole
    request, so this function raises it too.
    """
    indices = sorted(range(len(items)), key=lambda index: sort_key(items[index]))
    outcomes: dict[int, Item] = {}
    for start in range(0, len(items), ITEMS_A_TRANSACTION):
        batch = indices[start : start + ITEMS_A_TRANSACTION]
        batch_items = [items[index] for index in batch]
        outcomes.update(
            zip(batch, _process_together(start, batch_items, process, failed_outcome), strict=True)
        )
    return [outcomes[index] for index in range(len(items))]


def _process_together(
    start: int,
    items: list[Item],
    process: Callable[[int, list[Item]], list[Item]],
    failed_outcome: Callable[[Item], Item],
) -> list[Item]:
    """The outcomes of items in one transaction, or, if that fails, in one transaction for each."""
    try:
        return run_with_retries(lambda: process(start, items))
    except UsherLmsError:
        raise  # about the request, not about an item
    except Exception as error:  # receivers of other apps may raise anything
        if len(items) > 1:
            log.warning("%d items failed together; retrying one by one: %r", len(items), error)
        else:
            log.exception("Item %d of a batch failed.", start)
    if len(items) == 1:
        return [failed_outcome(items[0])]
    return [
        outcome
        for number, item in enumerate(items)
        for outcome in _process_together(start + number, [item], process, failed_outcome)
    ]


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
            may_succeed = savepoint_lost or is_first_conflict or _is_transient(error)
            if attempt == MAX_ATTEMPTS or not may_succeed:
                raise
            log.info("Repeating a transaction after attempt %d: %s", attempt, error)
            pause = random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)  # noqa: S311 - spreads load
            time.sleep(pause * attempt)
    raise AssertionError("unreachable")


def _is_transient(error: Exception) -> bool:
    """Whether a retry may succeed: the error is a deadlock, a lock timeout, or a missing savepoint,
    which shows that a receiver swallowed one of these."""
    if not isinstance(error, DatabaseError):
        return False
    number = error.args[0] if error.args else None
    lost_savepoint = (
        isinstance(error, TransactionManagementError) or "savepoint" in str(error).lower()
    )
    return number in TRANSIENT_ERROR_NUMBERS or lost_savepoint


class WriteCounter:
    """Counts the statements that write. The count shows whether a refusal came before any write."""

    #: Beginnings of statements that write nothing.
    _READING = ("SELECT", "SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO")

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith(self._READING):
            self.count += 1
        return execute(sql, params, many, context)

    def counting(self) -> Any:
        """A context manager within which statements are counted."""
        return connection.execute_wrapper(self)
