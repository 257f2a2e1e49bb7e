"""Shares the LMS's answer with all certificates of a learner among that learner's due rows, so that
they need one request and not one each."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

#: The most answers that a process keeps.
_MAX_ANSWERS = 5000
#: How much the clocks of processes that make rows due may differ.
_MARGIN = timedelta(seconds=1)


@dataclass(frozen=True)
class _Answer:
    lease_owner: str
    claimed_at: datetime
    future: Future[Any]


class Answers:
    """The answers of one LMS, by learner; safe for use by several threads."""

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
        """The result of ``ask``, or its earlier result for another row of this learner.

        An earlier result is used only if its request was sent after this row became due, so that it
        includes the change that made the row due. lease_owner, claimed_at, due_since: of this row;
        the time of a request is taken to be ``claimed_at`` of the row that sent it. Raises what
        ``ask`` raises; errors are not kept.
        """
        with self._lock:
            future = self._kept.get(learner)
            if future and _is_good(future, lease_owner, due_since):
                own_future = None
            else:
                own_future = future = _Answer(lease_owner, claimed_at, Future())
                self._kept[learner] = future
                self._kept.move_to_end(learner)
                while len(self._kept) > _MAX_ANSWERS:
                    self._kept.popitem(last=False)
        if own_future is not None:
            self._ask(learner, own_future, ask)
        return future.future.result()

    def _ask(self, learner: str, future: _Answer, ask: Callable[[], Any]) -> None:
        try:
            future.future.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - raised in every waiting thread
            with self._lock:
                if self._kept.get(learner) is future:
                    del self._kept[learner]
            future.future.set_exception(error)


def _is_good(answer: _Answer, lease_owner: str, due_since: datetime) -> bool:
    return answer.lease_owner == lease_owner or due_since + _MARGIN <= answer.claimed_at
