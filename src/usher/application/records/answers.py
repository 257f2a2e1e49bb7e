"""One answer of the LMS holds all of a learner's certificates: it is asked for once, however many
of the learner's rows are due."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

#: Answers kept in a process.
_MOST = 5000
#: How far the clocks of processes that make rows due may be apart.
_MARGIN = timedelta(seconds=1)


@dataclass(frozen=True)
class _Answer:
    lease_owner: str
    claimed_at: datetime
    future: Future[Any]


class Answers:
    """Of one LMS; threads share it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Answer] = OrderedDict()
        self._lock = threading.Lock()

    def of(
        self,
        learner: str,
        ask: Callable[[], Any],
        *,
        lease_owner: str,
        claimed_at: datetime,
        due_since: datetime,
    ) -> Any:
        """What ``ask`` answers, or answered for another row of this learner.

        An answer is used for a row that became due before the request was sent: the request then
        followed the change that made the row due. It was sent after its own row was claimed. Raises
        what ``ask`` raises, which is not kept.
        """
        with self._lock:
            found = self._kept.get(learner)
            if found and _is_good(found, lease_owner, due_since):
                mine = None
            else:
                mine = found = _Answer(lease_owner, claimed_at, Future())
                self._kept[learner] = found
                self._kept.move_to_end(learner)
                while len(self._kept) > _MOST:
                    self._kept.popitem(last=False)
        if mine is not None:
            self._ask(learner, mine, ask)
        return found.future.result()

    def _ask(self, learner: str, mine: _Answer, ask: Callable[[], Any]) -> None:
        try:
            mine.future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - goes to all who wait
            with self._lock:
                if self._kept.get(learner) is mine:
                    del self._kept[learner]
            mine.future.set_exception(error)


def _is_good(answer: _Answer, lease_owner: str, due_since: datetime) -> bool:
    return answer.lease_owner == lease_owner or due_since + _MARGIN <= answer.claimed_at
