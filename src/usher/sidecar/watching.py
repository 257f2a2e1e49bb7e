"""Pass after pass, for as long as the sidecar runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event
from types import FrameType

from usher.client.errors import LmsError
from usher.connect.application.checkout import Wishes
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.errors import SidecarError
from usher.sidecar.opening import CONCURRENCY, opened_application, with_lms
from usher.sidecar.outcome import DONE, Memory, Outcome
from usher.sidecar.reconcile import Asked, reconcile
from usher.sidecar.runs import RUN
from usher.sidecar.watched import Watched

#: Seconds between two looks at the application's tables.
EVERY = 3.0
_LONGEST_WAIT = 60.0
#: Of five seconds of the application's database at most one is the sidecar's.
_REST_TO_WORK = 4.0
#: Seconds between two looks at all rows, and at the LMS's course runs.
ALL_EVERY = 300.0
RUNS_EVERY = 300.0
#: Seconds by which the time looked back on overlaps with the last look: transactions take a while.
_OVERLAP = 60.0


class Stopped(Exception):
    """SIGTERM or SIGINT came, and no batch is under way."""


class Stopping:
    """Between SIGTERM and the end: a batch under way is finished and recorded, no other begun."""

    def __init__(self) -> None:
        self._asked = Event()
        self._busy = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(each, self._on_signal) for each in signals]
        try:
            yield
        except Stopped:
            return
        finally:
            for each, handler in zip(signals, before, strict=True):
                signal.signal(each, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again = self._asked.is_set()
        self._asked.set()
        if again or not self._busy:
            # The second one is meant: what is under way is found again by the next start.
            raise Stopped

    @contextmanager
    def batches(self) -> Iterator[Callable[[Outcome], None]]:
        """What is called between two batches."""
        self._busy = True
        try:
            yield lambda outcome: self.stop_if_asked()
        finally:
            self._busy = False
        self.stop_if_asked()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def stop_if_asked(self) -> None:
        if self._asked.is_set():
            raise Stopped


@dataclass
class Looks:
    """What each pass looks at. All rows at first and now and then; in between those that the
    application changed since the last look: among a million learners that is a fraction of it."""

    asked: Asked
    memory: Memory = field(default_factory=Memory)
    _looked: float = 0.0
    _all_due: float = 0.0
    _runs_due: float = 0.0

    def next(self, now: float) -> Asked:
        """now: a moment of ``time.monotonic``, here as below."""
        kinds = [kind for kind in self.asked.kinds if kind != RUN or now >= self._runs_due]
        recent = None if now >= self._all_due else now - self._looked + _OVERLAP
        return replace(self.asked, kinds=kinds, changed_in=recent)

    def done(self, looked: Asked, outcome: Outcome, started: float, ended: float) -> float:
        """Seconds until the next look."""
        took = ended - started
        self._looked = started
        if looked.changed_in is None:
            self._all_due = started + max(ALL_EVERY, 20 * took)
        elif outcome.numbers[ACCOUNT, DONE]:
            # Their enrollments, however old, are due now.
            self._all_due = ended
        if RUN in looked.kinds:
            self._runs_due = started + RUNS_EVERY
        # Among a million learners a look takes seconds of the application's database.
        return max(EVERY, _REST_TO_WORK * took)


def watch(
    wishes: Wishes,
    lms_url: str,
    asked: Asked,
    *,
    concurrency: int = CONCURRENCY,
    began: Callable[[str, str], None],
    after: Callable[[Outcome], None],
    troubled: Callable[[str, float], None],
    watched: Watched | None = None,
) -> None:
    """Until SIGTERM or SIGINT. began: told the application's title and the LMS's address, each
    time both are reached; after: told of each pass that did something; troubled: why, and the
    seconds until the next try; watched: told of everything. The application and the LMS may be
    restarted meanwhile."""
    seen = watched or Watched()
    looks, stopping, wait = Looks(asked), Stopping(), EVERY
    with stopping.listening():
        while True:
            try:
                with opened_application(wishes) as (checkout, adapter, agent):
                    sides = with_lms(checkout, adapter, agent, lms_url, concurrency, seen.around)
                    began(adapter.title, sides.lms.http.base_url)
                    seen.opens(sides)
                    while True:
                        started = time.monotonic()
                        looked = looks.next(started)
                        with stopping.batches() as between:
                            outcome = Outcome(between, memory=looks.memory)
                            try:
                                reconcile(sides, looked, outcome)
                            finally:
                                seen.passed(outcome)
                                if outcome.numbers:
                                    after(outcome)
                        seen.looks_again()
                        wait = EVERY
                        time.sleep(looks.done(looked, outcome, started, time.monotonic()))
            except (SidecarError, LmsError) as error:
                stopping.stop_if_asked()
                seen.troubled(str(error), wait)
                troubled(str(error), wait)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
