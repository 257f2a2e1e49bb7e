"""The LMS answers with all certificates of a learner. This module shares the answer among the due
rows of the learner, so that all of them together need one request."""

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
    """future: the request's result. lease_owner, claimed_at: of the row for which it was sent."""

    lease_owner: str
    claimed_at: datetime
    future: Future[Any]


class Answers:
    """The answers of one LMS, by learner; safe for use by several threads."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get_or_request(
        self,
        learner: str,
        request: Callable[[], Any],
        *,
        lease_owner: str,
        claimed_at: datetime,
        due_since: datetime,
    ) -> Any:
        """The result of ``request``, or an earlier result that was requested for another row of
        this learner.

        An earlier result is used only if its request was sent after this row became due, so that it
        includes the change that made the row due. lease_owner, claimed_at, due_since: of this row;
        a request counts as sent at ``claimed_at`` of the row for which it was sent. Raises what
        ``request`` raises; errors are not kept.
        """
        with self._lock:
            answer = self._answers.get(learner)
            if answer and _is_usable(answer, lease_owner, due_since):
                new_answer = None
            else:
                new_answer = answer = _Answer(lease_owner, claimed_at, Future())
                self._answers[learner] = answer
                self._answers.move_to_end(learner)
                while len(self._answers) > _MAX_ANSWERS:
                    self._answers.popitem(last=False)
        if new_answer is not None:  # without the lock, which other learners' threads need
            self._fill(learner, new_answer, request)
        return answer.future.result()

    def _fill(self, learner: str, answer: _Answer, request: Callable[[], Any]) -> None:
        """Sends the request, and passes its result or its error to all threads that wait for the
        answer. An answer with an error is forgotten."""
        try:
            answer.future.set_result(request())
        except BaseException as error:  # noqa: BLE001 - raised in every waiting thread
            with self._lock:
                if self._answers.get(learner) is answer:
                    del self._answers[learner]
            answer.future.set_exception(error)


def _is_usable(answer: _Answer, lease_owner: str, due_since: datetime) -> bool:
    """Whether the answer was requested after the row became due. That is so if its row was claimed
    together with this row, and so has the same lease owner."""
    return answer.lease_owner == lease_owner or due_since + _MARGIN <= answer.claimed_at
