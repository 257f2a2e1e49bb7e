"""Many items in short transactions: nothing is said to be done that isn't, and one bad item costs
the others time and nothing else.

Each transaction has a savepoint around everything, the guard. MySQL rolls a whole transaction back
at a deadlock, and a receiver of the platform that swallows the error would let the rest go on as
if nothing had happened: then the guard is gone as well, its release fails, and the transaction is
done again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.transaction import TransactionManagementError
from edx_django_utils.cache import RequestCache

from usher.lms.errors import UsherLmsError

log = logging.getLogger(__name__)
Item = dict[str, Any]

#: Rows must not stay locked for long, and a commit for each item would cost more than the item.
ITEMS_A_TRANSACTION = 25
ATTEMPTS = 4
#: MySQL: deadlock, lock wait timeout, savepoint does not exist.
PASSING = frozenset({1213, 1205, 1305})


class UncleanRefusal(Exception):
    """An item was refused after something had been written for it already."""


def in_transactions(
    items: list[Item],
    work: Callable[[int, list[Item]], list[Item]],
    failed: Callable[[Item], Item],
    order: Callable[[Item], Any],
) -> list[Item]:
    """The outcome of each item, in order.

    work: carries out some items inside a transaction; gets the number of the first, too. failed:
    the outcome of an item at which something fails that is no refusal. order: items are worked on
    in this order, the same for every request, so that two of them seldom wait for each other.
    """
    indices = sorted(range(len(items)), key=lambda index: order(items[index]))
    outcomes: dict[int, Item] = {}
    for start in range(0, len(items), ITEMS_A_TRANSACTION):
        chosen = indices[start : start + ITEMS_A_TRANSACTION]
        some = [items[index] for index in chosen]
        outcomes.update(zip(chosen, _some(start, some, work, failed), strict=True))
    return [outcomes[index] for index in range(len(items))]


def _some(
    start: int,
    items: list[Item],
    work: Callable[[int, list[Item]], list[Item]],
    failed: Callable[[Item], Item],
) -> list[Item]:
    try:
        return retrying(lambda: work(start, items))
    except UsherLmsError:
        raise  # about the request, not about an item
    except Exception as error:  # receivers of other apps may raise anything
        if len(items) > 1:
            log.warning("%d items are done again, one by one: %r", len(items), error)
        else:
            log.exception("An item can't be carried out.")
    if len(items) == 1:
        return [failed(items[0])]
    return [
        outcome
        for number, item in enumerate(items)
        for outcome in _some(start + number, [item], work, failed)
    ]


def retrying(work: Callable[[], Any]) -> Any:
    """What ``work`` answers, in a guarded transaction that is repeated when another one was in its
    way. Raises what ``work`` raises; then nothing was changed."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with transaction.atomic(), transaction.atomic():
                return work()
        except Exception as error:
            # The platform remembers for the rest of a request what it has just written, such as
            # who is enrolled; of that nothing is true any more.
            RequestCache.clear_all_namespaces()
            if attempt == ATTEMPTS or not isinstance(error, DatabaseError) or not _passes(error):
                raise
            log.info("A transaction is repeated: %s", error)
            time.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - spreads load
    raise AssertionError("unreachable")


def _passes(error: BaseException) -> bool:
    """Whether the same may succeed at once: other transactions were in the way, or a receiver
    swallowed that they were."""
    number = error.args[0] if error.args else None
    lost = isinstance(error, TransactionManagementError) or "savepoint" in str(error).lower()
    return number in PASSING or lost


class WritesSeen:
    """Tells whether a refusal came before anything was written: a wrapper of database queries."""

    _READING = ("SELECT", "SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO")

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith(self._READING):
            self.count += 1
        return execute(sql, params, many, context)

    def watching(self) -> Any:
        return connection.execute_wrapper(self)
