"""Processes many items in short transactions, so that each outcome says what was committed and one
failing item does not fail the other items.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connection

from usher.lms.errors import DatabaseBusy, UsherLmsError
from usher.lms.transactions import run_with_retries

log = logging.getLogger(__name__)
Item = dict[str, Any]

#: With more items, rows would stay locked for longer; with only one item, the commit would cost
#: more than the item.
ITEMS_A_TRANSACTION = 25


#: After this many seconds in transactions that failed because the database was busy, the remaining
#: items of a request are not processed: the caller waits no longer than a minute.
MAX_SECONDS_LOST = 20.0
#: The error code of items that were not processed because the database was busy.
BUSY = "database-busy"


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
    request = _Request(process, failed_outcome)
    outcomes: dict[int, Item] = {}
    for start in range(0, len(items), ITEMS_A_TRANSACTION):
        batch = indices[start : start + ITEMS_A_TRANSACTION]
        batch_outcomes = request.process_together(start, [items[index] for index in batch])
        outcomes.update(zip(batch, batch_outcomes, strict=True))
    return [outcomes[index] for index in range(len(items))]


@dataclass
class _Request:
    """The items of one request. process, failed_outcome: as in ``process_in_transactions``.
    seconds_lost: spent on transactions that failed because the database was busy."""

    process: Callable[[int, list[Item]], list[Item]]
    failed_outcome: Callable[[Item], Item]
    seconds_lost: float = 0

    def process_together(self, start: int, items: list[Item]) -> list[Item]:
        """The outcomes of items in one transaction, or, if that fails, in one transaction for
        each. If the database has been busy for too long, no further items are processed."""
        if self.seconds_lost > MAX_SECONDS_LOST:
            return [_busy_outcome(item) for item in items]
        began = time.monotonic()
        is_busy = False
        try:
            return run_with_retries(lambda: self.process(start, items))
        except DatabaseBusy as error:
            is_busy = True
            self.seconds_lost += time.monotonic() - began
            log.warning("%d items could not be processed: %s", len(items), error)
        except UsherLmsError:
            raise  # about the request, not about an item
        except Exception as error:  # receivers of other apps may raise anything
            if len(items) > 1:
                log.warning("%d items failed together; retrying one by one: %r", len(items), error)
            else:
                log.exception("Item %d of a batch failed.", start)
        if len(items) == 1:
            return [_busy_outcome(items[0]) if is_busy else self.failed_outcome(items[0])]
        return [
            outcome
            for number, item in enumerate(items)
            for outcome in self.process_together(start + number, [item])
        ]


def _busy_outcome(item: Item) -> Item:
    """The outcome of an item that may succeed later: ``failed``, which is no refusal."""
    message = (
        "The LMS's database was busy or restarting; this item was not processed. Send it again."
    )
    return {"id": item["id"], "status": "failed", "error": {"code": BUSY, "message": message}}


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
