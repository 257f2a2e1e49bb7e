"""The result of a pass: counts for each kind, and refusals with their reasons."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

from usher.client.errors import LmsError, Throttled

DONE, REFUSED, FAILED, SKIPPED, INVALID = "done", "refused", "failed", "skipped", "invalid"


#: With ``--watch``: seconds until a refused row is tried again, and an invalid one checked again.
REFUSED_PAUSE = 3600.0
#: Seconds until a row that failed or was skipped is tried again the first time. Each further pause
#: is twice as long.
_FIRST_PAUSE_SECONDS = 2.0
#: The longest pause of failed rows, in seconds.
_MAX_PAUSE_SECONDS = 300.0
#: The longest pause of skipped rows, in seconds. It is short because the locks of a killed process
#: end after two minutes.
_MAX_SKIPPED_SECONDS = 15.0
#: The most rows that are remembered as agreeing with the LMS. Then all are forgotten, which only
#: costs some requests.
_MAX_AGREEING = 10_000
#: Expired pauses are removed when this many are remembered. The number grows because a changed row
#: gets a new entry.
_MAX_PAUSES = 10_000


class Pause(NamedTuple):
    """The pause before a row is tried again. until: time of ``time.monotonic``."""

    until: float
    seconds: float


class RowMemory:
    """Remembers rows that were refused or failed recently, since not every application has a column
    for that; rows that agreed with the LMS; and rows that a thread processes now, since several
    threads check the same tables. The memory lasts as long as the process."""

    def __init__(self) -> None:
        #: Kind and retry key of a row → its pause.
        self._pauses: dict[tuple[str, Any], Pause] = {}
        #: The number of pauses at which expired ones are removed next.
        self._prune_at_count = _MAX_PAUSES
        #: Kind and primary key of a row → the values with which it agreed with the LMS.
        self._agreeing: dict[tuple[str, Any], Any] = {}
        #: Table and primary key of each row that a thread processes now.
        self._claimed: set[tuple[str, Any]] = set()
        self._claim_lock = Lock()

    def record(self, kind: str, retry_key: Any, result: str) -> None:
        """Records the result of a row, which sets the pause until the next attempt. retry_key: the
        values of the row: if one of them changes, the row is tried again without a pause."""
        if result == DONE:
            self._pauses.pop((kind, retry_key), None)
            return
        if result in (REFUSED, INVALID):
            seconds = REFUSED_PAUSE
        else:
            last_pause = self._pauses.get((kind, retry_key))
            doubled = 2 * last_pause.seconds if last_pause else _FIRST_PAUSE_SECONDS
            longest = _MAX_SKIPPED_SECONDS if result == SKIPPED else _MAX_PAUSE_SECONDS
            seconds = min(doubled, longest)
        if len(self._pauses) >= self._prune_at_count:
            self._forget_expired()
        self._pauses[kind, retry_key] = Pause(time.monotonic() + seconds, seconds)

    def _forget_expired(self) -> None:
        """Removes pauses that ended more than ``REFUSED_PAUSE`` ago: a row that still fails has a
        newer pause by then. The next removal waits until the number of pauses has doubled, because
        each removal reads all of them."""
        oldest_end = time.monotonic() - REFUSED_PAUSE
        with self._claim_lock:
            # Other threads may add pauses meanwhile, so ``list`` copies them first.
            pauses = list(self._pauses.items())
            self._pauses = {key: pause for key, pause in pauses if pause.until > oldest_end}
            self._prune_at_count = max(_MAX_PAUSES, 2 * len(self._pauses))

    def forget_failures(self) -> None:
        """Makes rows that failed or were skipped due again. Refused rows stay refused."""
        self._pauses = {
            key: pause for key, pause in self._pauses.items() if pause.seconds >= REFUSED_PAUSE
        }

    def is_due(self, kind: str, retry_key: Any) -> bool:
        """Whether the row with this retry key may be tried now: it has no pause, or the pause has
        ended."""
        pause = self._pauses.get((kind, retry_key))
        return pause is None or pause.until <= time.monotonic()

    def has_agreed_with_lms(self, kind: str, pk: Any, values: Any) -> bool:
        """Whether the row of this primary key agreed with the LMS when it had these values. This
        saves requests, since quick passes read each recently changed row many times."""
        return bool(self._agreeing.get((kind, pk)) == values)

    def record_agreement(self, kind: str, pk: Any, values: Any) -> None:
        """Records that the row of this primary key agrees with the LMS, having these values."""
        if len(self._agreeing) >= _MAX_AGREEING:
            self._agreeing.clear()
        self._agreeing[kind, pk] = values

    @contextmanager
    def claim(self, table: str, keys: Iterable[Any]) -> Iterator[set[Any]]:
        """Claims the rows of these primary keys until the block ends, and yields the keys of the
        claimed rows. Leaves out rows that another thread has claimed."""
        with self._claim_lock:
            free_keys = {key for key in keys if (table, key) not in self._claimed}
            claims = {(table, key) for key in free_keys}
            self._claimed |= claims
        try:
            yield free_keys
        finally:
            with self._claim_lock:
                self._claimed -= claims


@dataclass
class Summary:
    """The results of a pass, counted by kind.

    A row has one of five results. done: in the LMS as desired, and recorded. refused: by the LMS or
    by the application's own validation. failed: a temporary failure, due again. skipped: another
    process changed or locked the row, or the row is not eligible. invalid: the application's own
    rules don't accept the LMS's values, so the application keeps its own values.

    numbers: (kind, result) → number of rows. reasons: one entry for each row that is not done.
    waiting: kind → number of rows that become due when their learners have accounts. new: kind →
    number of rows that become due when they are older. progress: called after every batch.
    row_memory: shared by the passes of one process. waits_for_locks: whether to wait until the
    application's locks end. notify: called with a sentence if something takes long.
    """

    progress: Callable[[Summary], None] = lambda summary: None
    row_memory: RowMemory = field(default_factory=RowMemory)
    waits_for_locks: bool = False
    notify: Callable[[str], None] = lambda text: None
    waiting: dict[str, int] = field(default_factory=dict)
    new: dict[str, int] = field(default_factory=dict)
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)
    reasons: list[dict[str, str]] = field(default_factory=list)
    _add_lock: Lock = field(default_factory=Lock)

    def add(
        self,
        kind: str,
        result: str,
        what: str = "",
        reason: str = "",
        code: str = "",
        request_id: str = "",
        retry_key: Any = None,
    ) -> None:
        """Counts one row. what: the learner or the run, or both. code: of the refusal or failure,
        or ''. request_id: of the request to the LMS that was refused or failed, or ''. retry_key:
        as for ``RowMemory.record``; None if the row needs no pause. Several threads may call
        this."""
        entry = {
            "kind": kind,
            "what": what,
            "result": result,
            "reason": reason,
            "code": code,
            "request_id": request_id,
        }
        if retry_key is not None:
            self.row_memory.record(kind, retry_key, result)
        with self._add_lock:
            self.numbers[kind, result] += 1
            if reason:
                self.reasons.append(entry)

    def add_error(self, kind: str, what: str, error: LmsError, retry_key: Any = None) -> None:
        """Counts a temporary failure: the row is due again."""
        self.add(kind, FAILED, what, error.message, error.code, error.request_id, retry_key)

    def add_result(
        self,
        kind: str,
        result: str,
        what: str,
        result_data: Mapping[str, Any],
        retry_key: Any = None,
    ) -> None:
        """Counts a refusal or failure by the LMS. result: REFUSED or FAILED. result_data: the LMS's
        result for one item, in the batch API's form."""
        error = result_data["error"]
        reason = error["message"]
        if result == REFUSED:
            reason += f" ({error['code']})"
        request_id = result_data.get("request_id", "")
        self.add(kind, result, what, reason, error["code"], request_id, retry_key)

    def add_write(
        self, kind: str, what: str, write_result: dict[str, Any], retry_key: Any = None
    ) -> bool:
        """Counts the agent's outcome of writing a row. Returns False if the row was not written
        because another process changed, deleted or locked it. A row whose values the application's
        own code refused is counted as refused; for this row too, True is returned."""
        if write_result["outcome"] in ("written", "same"):
            self.add(kind, DONE, retry_key=retry_key)
        elif write_result["outcome"] == "refused":
            self.add(kind, REFUSED, what, write_result["message"], retry_key=retry_key)
        else:
            reason = f"the application's row is {write_result['outcome']}"
            self.add(kind, SKIPPED, what, reason, retry_key=retry_key)
            return False
        return True

    @property
    def is_rate_limited(self) -> bool:
        """Whether a row failed because the LMS limits the rate of requests."""
        code = Throttled.default_code
        return any(reason["result"] == FAILED and reason["code"] == code for reason in self.reasons)

    def prepare_another_pass(self) -> None:
        """Prepares the summary for another pass: rows that failed or were skipped are no longer
        counted, and are due again."""
        self.numbers = Counter(
            {
                (kind, result): number
                for (kind, result), number in self.numbers.items()
                if result not in (FAILED, SKIPPED)
            }
        )
        self.reasons = [
            reason for reason in self.reasons if reason["result"] not in (FAILED, SKIPPED)
        ]
        self.row_memory.forget_failures()

    def report_progress(self) -> None:
        self.progress(self)

    def total(self, result: str) -> int:
        """Returns the number of rows of all kinds with this result."""
        return sum(
            number for (_, row_result), number in self.numbers.items() if row_result == result
        )

    @property
    def succeeded(self) -> bool:
        return not self.total(REFUSED) and not self.total(FAILED)

    def as_data(self) -> dict[str, Any]:
        kinds = sorted({kind for kind, _ in self.numbers})
        results = (DONE, REFUSED, FAILED, SKIPPED, INVALID)
        return {
            "ok": self.succeeded,
            "kinds": {
                kind: {result: self.numbers[kind, result] for result in results} for kind in kinds
            },
            "waiting": self.waiting,
            "new": self.new,
            "reasons": self.reasons,
        }
