"""Pass after pass, for as long as the sidecar runs."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Event
from types import FrameType

from usher.client.errors import LmsError
from usher.connect.application.checkout import Wishes
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.enrollments import ENROLLMENT
from usher.sidecar.errors import SidecarError, explained
from usher.sidecar.opening import CONCURRENCY, Opened, opened_application, with_lms
from usher.sidecar.outcome import DONE, Memory, Outcome
from usher.sidecar.reconcile import Asked, reconcile
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.runs import RUN
from usher.sidecar.watched import Watched

#: Seconds between two looks at the application's tables.
EVERY = 2.0
_LONGEST_WAIT = 60.0
#: Of five seconds of the application's database at most one is the sidecar's.
_REST_TO_WORK = 4.0
#: Seconds between two looks at all rows, at the LMS's course runs and at their modes, for which an
#: LMS without the batch API is asked once a run.
ALL_EVERY = 300.0
RUNS_EVERY = 300.0
RUN_MODES_EVERY = 3600.0
_RUNS_EVERY = {RUN: RUNS_EVERY, RUN_MODE: RUN_MODES_EVERY}
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
    application changed since the last look: among a million learners that is a fraction of it.

    Course runs have moments of their own for that: what the LMS changed is found by no other look.
    """

    asked: Asked
    memory: Memory = field(default_factory=Memory)
    _looked: float = 0.0
    _short_began: float = 0.0
    _short_due: float = 0.0
    _made_accounts: bool = False
    _whole_due: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def next(self, now: float) -> Asked:
        """now: a moment of ``time.monotonic``, here as below."""
        recent = now - self._looked + _OVERLAP
        whole = {kind for kind in self.asked.kinds if now >= self._whole_due[kind]}
        self._short_began = self._looked
        self._short_due = now + EVERY
        return replace(self.asked, changed_in=recent, whole=whole)

    def short(self, now: float) -> Asked | None:
        """What a look in the middle of a long one looks at; None when none is due yet."""
        if now < self._short_due:
            return None
        recent, self._short_began = now - self._short_began + _OVERLAP, now
        return replace(self.asked, changed_in=recent)

    def short_done(self, outcome: Outcome, now: float, busy: float) -> None:
        self._made_accounts |= bool(outcome.numbers[ACCOUNT, DONE])
        self._short_due = now + max(EVERY, _REST_TO_WORK * busy)

    def done(
        self, looked: Asked, outcome: Outcome, started: float, ended: float, busy: float
    ) -> float:
        """Seconds until the next look. busy: of the application's database."""
        took = ended - started
        self._looked = started
        for kind in looked.whole:
            seconds = _RUNS_EVERY.get(kind) or max(ALL_EVERY, 20 * took)
            self._whole_due[kind] = started + seconds
        made = bool(outcome.numbers[ACCOUNT, DONE]) and ENROLLMENT not in looked.whole
        if made or self._made_accounts:
            # Those of the learners who have an account now are due, however old they are.
            self._whole_due[ENROLLMENT], self._made_accounts = ended, False
        # Among a million learners a look takes seconds of the application's database.
        return max(EVERY, _REST_TO_WORK * busy)


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

    def look(sides: Opened, looked: Asked, between: Callable[[Outcome], None]) -> Outcome:
        outcome = Outcome(between, memory=looks.memory)
        try:
            return reconcile(sides, looked, outcome)
        finally:
            seen.passed(outcome)
            if outcome.numbers:
                after(outcome)

    def one_pass(sides: Opened) -> float:
        """Seconds until the next one."""
        started, worked = time.monotonic(), sides.agent.busy
        looked = looks.next(started)
        with stopping.batches() as stop_if_asked:

            def between(so_far: Outcome) -> None:
                stop_if_asked(so_far)
                if looked.whole and (short := looks.short(time.monotonic())):
                    worked_before = sides.agent.busy
                    found = look(sides, short, stop_if_asked)
                    looks.short_done(found, time.monotonic(), sides.agent.busy - worked_before)

            outcome = look(sides, looked, between)
        seen.looks_again()
        return looks.done(looked, outcome, started, time.monotonic(), sides.agent.busy - worked)

    with stopping.listening():
        while True:
            try:
                with opened_application(wishes) as (checkout, adapter, agent):
                    sides = with_lms(checkout, adapter, agent, lms_url, concurrency, seen.around)
                    began(adapter.title, sides.lms.http.base_url)
                    seen.opens(sides)
                    while True:
                        rest = one_pass(sides)
                        wait = EVERY
                        time.sleep(rest)
            except (SidecarError, LmsError) as error:
                stopping.stop_if_asked()
                reason = explained(error) if isinstance(error, LmsError) else str(error)
                seen.troubled(reason, wait)
                troubled(reason, wait)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
