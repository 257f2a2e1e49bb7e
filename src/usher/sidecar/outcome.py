"""The result of a pass: counts for each kind, and refusals with their reasons."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from usher.client.errors import LmsError, Throttled

DONE, REFUSED, FAILED, LEFT = "done", "refused", "failed", "left"


#: With ``--watch``: seconds until a refused row is tried again.
REST = 3600.0
#: The same for a failed row or one that was left: the first pause, doubled each time, and the
#: longest.
_FIRST_REST, _LONGEST_REST = 2.0, 300.0
#: The most rows of which it is remembered that they agreed with the LMS.
_MOST_RIGHT = 10_000
#: The number of remembered refusals and failures at which those that have expired are removed. A
#: changed row gets a new entry, so their number grows.
_MOST_RESTS = 10_000


class Memory:
    """Remembers rows that were refused or failed recently, since not every application has a column
    for that; and rows that a thread processes now, since several threads check the same tables. It
    lasts as long as the process."""

    def __init__(self) -> None:
        #: Kind and content of a row → the time until which it is not tried, and the pause in
        #: seconds.
        self._rests: dict[tuple[str, Any], tuple[float, float]] = {}
        self._clear_at = _MOST_RESTS
        self._right: dict[tuple[str, Any], Any] = {}
        self._taken: set[tuple[str, Any]] = set()
        self._taking = Lock()

    def met(self, kind: str, key: Any, result: str) -> None:
        """Records the result of a row with this content (``key``), which sets the pause until its
        next attempt."""
        if result == DONE:
            self._rests.pop((kind, key), None)
            return
        _, last = self._rests.get((kind, key), (0.0, 0.0))
        rest = REST if result == REFUSED else max(_FIRST_REST, min(2 * last, _LONGEST_REST))
        if len(self._rests) >= self._clear_at:
            self._forget_those_over()
        self._rests[kind, key] = (time.monotonic() + rest, rest)

    def _forget_those_over(self) -> None:
        """Removes entries an hour after their pause ended: a row that still fails would have a new
        entry."""
        past = time.monotonic() - REST
        with self._taking:
            kept = {key: rest for key, rest in list(self._rests.items()) if rest[0] > past}
            self._rests, self._clear_at = kept, max(_MOST_RESTS, 2 * len(kept))

    def forget_failures(self) -> None:
        """Rows that failed or were left are due again. Refused ones are not."""
        self._rests = {key: rest for key, rest in self._rests.items() if rest[1] >= REST}

    def is_due(self, kind: str, key: Any) -> bool:
        until, _ = self._rests.get((kind, key), (0.0, 0.0))
        return until <= time.monotonic()

    def is_right(self, kind: str, key: Any, content: Any) -> bool:
        """Whether this content of a row agreed with the LMS before: a check of recent changes reads
        each of them many times."""
        return bool(self._right.get((kind, key)) == content)

    def found_right(self, kind: str, key: Any, content: Any) -> None:
        if len(self._right) >= _MOST_RIGHT:
            self._right.clear()
        self._right[kind, key] = content

    @contextmanager
    def taken(self, table: str, keys: Iterable[Any]) -> Iterator[set[Any]]:
        """Yields the rows that no other thread processes, marked as taken until the block ends."""
        with self._taking:
            mine = {key for key in keys if (table, key) not in self._taken}
            self._taken |= {(table, key) for key in mine}
        try:
            yield mine
        finally:
            with self._taking:
                self._taken -= {(table, key) for key in mine}


@dataclass
class Outcome:
    """done: in the LMS as desired, and recorded. refused: by the LMS or by the application's own
    validation. failed: a temporary failure, due again. left: another process changed or locked the
    row.

    waiting: kind → number of rows that become due when their learners have accounts. progress:
    called after every batch. awaits_locks: whether to wait until the application's locks end. says:
    called with a sentence if something takes long.
    """

    progress: Callable[[Outcome], None] = lambda outcome: None
    memory: Memory = field(default_factory=Memory)
    awaits_locks: bool = False
    says: Callable[[str], None] = lambda words: None
    waiting: dict[str, int] = field(default_factory=dict)
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: list[dict[str, str]] = field(default_factory=list)
    _adding: Lock = field(default_factory=Lock)

    def add(
        self,
        kind: str,
        result: str,
        what: str = "",
        reason: str = "",
        code: str = "",
        request_id: str = "",
        key: Any = None,
    ) -> None:
        """Counts one row. code: of the refusal, or ''. request_id: of the request that the LMS
        refused, or ''. key: the row's content; it is not tried again for a while if it was not
        done. Several threads may call this."""
        told = {
            "kind": kind,
            "what": what,
            "result": result,
            "reason": reason,
            "code": code,
            "request_id": request_id,
        }
        if key is not None:
            self.memory.met(kind, key, result)
        with self._adding:
            self.numbers[kind, result] += 1
            if reason:
                self.reasons.append(told)

    def add_error(self, kind: str, what: str, error: LmsError, key: Any = None) -> None:
        """Counts a temporary failure: the row is due again."""
        self.add(kind, FAILED, what, error.message, error.code, error.request_id, key)

    def add_answered(
        self, kind: str, result: str, what: str, answered: Mapping[str, Any], key: Any = None
    ) -> None:
        """Counts the LMS's result for one item, in the batch API's form."""
        error = answered["error"]
        reason = error["message"]
        if result == REFUSED:
            reason += f" ({error['code']})"
        request_id = answered.get("request_id", "")
        self.add(kind, result, what, reason, error["code"], request_id, key)

    def add_written(self, kind: str, what: str, written: dict[str, Any], key: Any = None) -> bool:
        """Counts the agent's outcome of writing a row. Returns False if the row was not written,
        for example because it changed meanwhile."""
        if written["outcome"] in ("written", "same"):
            self.add(kind, DONE, key=key)
        elif written["outcome"] == "refused":
            self.add(kind, REFUSED, what, written["message"], key=key)
        else:
            reason = f"the application's row is {written['outcome']}"
            self.add(kind, LEFT, what, reason, key=key)
            return False
        return True

    @property
    def is_limited(self) -> bool:
        """Whether a row failed because the LMS limits the rate of requests."""
        code = Throttled.default_code
        return any(each["result"] == FAILED and each["code"] == code for each in self.reasons)

    def try_again(self) -> None:
        """Before another pass: rows that failed or were left are not counted, and are due again."""
        self.numbers = Counter(
            {key: n for key, n in self.numbers.items() if key[1] not in (FAILED, LEFT)}
        )
        self.reasons = [each for each in self.reasons if each["result"] not in (FAILED, LEFT)]
        self.memory.forget_failures()

    def told(self) -> None:
        self.progress(self)

    def total(self, result: str) -> int:
        return sum(number for (_, found), number in self.numbers.items() if found == result)

    @property
    def ok(self) -> bool:
        return not self.total(REFUSED) and not self.total(FAILED)

    def as_data(self) -> dict[str, Any]:
        kinds = sorted({kind for kind, _ in self.numbers})
        results = (DONE, REFUSED, FAILED, LEFT)
        return {
            "ok": self.ok,
            "kinds": {kind: {r: self.numbers[kind, r] for r in results} for kind in kinds},
            "waiting": self.waiting,
            "reasons": self.reasons,
        }
