"""Looks at the application for as long as the sidecar runs, in a thread for each sort of them.

Quick looks are at what the application changed, whole ones at everything, a kind at a time. Kinds
that the application's own tables show are looked at apart from those for which the LMS is asked. No
quick look waits for a whole one, or for an LMS that is slow to tell of its course runs: a change
must take effect within seconds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event, Lock, Thread, Timer
from types import FrameType

from usher.client.errors import LmsError
from usher.connect.application.checkout import ApplicationOptions
from usher.connect.errors import ConnectError
from usher.contract.envfile import EnvFileError
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.enrollments import ENROLLMENT, UNENROLLMENT
from usher.sidecar.errors import SidecarError, explained
from usher.sidecar.opening import CONCURRENCY, Opened, opened_application, with_lms
from usher.sidecar.outcome import Memory, Outcome
from usher.sidecar.reconcile import KINDS, Asked, check, reconcile
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.runs import RUN
from usher.sidecar.watched import Watched

#: Seconds between two looks at the application's tables.
EVERY = 1.0
#: Seconds until the next try when the application or the LMS can't be reached; doubled each time.
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0
#: Seconds of rest for each second of the application's database. Quick and whole looks together
#: use at most a fifth of its time.
QUICK_REST, WHOLE_REST = 5.0, 30.0
#: Seconds between two whole looks at what only a comparison with the LMS shows, and at the modes of
#: runs, for which an LMS without the batch API is asked once a run.
COMPARED_EVERY = 300.0
RUN_MODES_EVERY = 3600.0
#: Kinds that the application's own tables show: a look asks the LMS nothing when none is due.
_RECORDED = (ACCOUNT, ENROLLMENT, UNENROLLMENT)
_COMPARED = tuple(kind for kind in KINDS if kind not in _RECORDED)
#: Seconds in which a look that failed is noticed.
_FAILED_EVERY = 0.2
#: Seconds for which a batch under way may go on after SIGTERM or SIGINT: fewer than the 60 after
#: which containers are killed. An LMS that has stopped answering would be waited on for minutes.
PATIENCE = 30.0
_STOPPING = b"\nstopping after the batch under way; a second Ctrl-C stops at once\n"
#: Errors of the application's files, which a release of it replaces.
_OF_FILES = (ConnectError, EnvFileError, OSError)
#: Seconds by which the time looked back on overlaps with the last look: transactions take a while.
_OVERLAP = 60.0


class Stopped(Exception):
    """SIGTERM or SIGINT came, and no batch is under way."""


class Stopping:
    """Between SIGTERM and the end: a batch under way is finished and recorded, no other begun.

    at_once: ends the process, which loses nothing: what is under way is found again by the next
    start. It is called by a second signal, and when the batch takes longer than ``patience``
    seconds.
    """

    def __init__(self, at_once: Callable[[], None], patience: float = PATIENCE) -> None:
        self._asked = Event()
        self._busy = False
        self._at_once = at_once
        self._giving_up = Timer(patience, at_once)
        self._giving_up.daemon = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(each, self._on_signal) for each in signals]
        try:
            yield
        except Stopped:
            return
        finally:
            self._giving_up.cancel()
            for each, handler in zip(signals, before, strict=True):
                signal.signal(each, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked.is_set():
            self._at_once()
            return
        self._asked.set()
        self._giving_up.start()
        with suppress(OSError):
            # Not by ``print``: the signal may have come in the middle of one.
            os.write(2, _STOPPING)
        if not self._busy:
            raise Stopped

    @contextmanager
    def batches(self) -> Iterator[Callable[[Outcome], None]]:
        """Called between two batches."""
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
class QuickLooks:
    """At what the application changed since the last one: among a million learners that is a
    fraction of a whole look. Moments are of ``time.monotonic``."""

    asked: Asked
    _looked: float | None = None

    def next(self, now: float) -> Asked:
        since = 0.0 if self._looked is None else now - self._looked
        return replace(self.asked, changed_in=since + _OVERLAP)

    def done(self, started: float, busy: float) -> float:
        """Returns seconds to the next look. busy: how long the application's database searched."""
        self._looked = started
        return max(EVERY, QUICK_REST * busy)


@dataclass
class WholeLooks:
    """At all rows, a kind at a time, each as often as its cost allows. In a small application
    that is as often as the quick ones; they also find what no column tells, such as a bulk
    update or a row that was deleted. Moments are of ``time.monotonic``."""

    asked: Asked
    _due: dict[str, float] = field(default_factory=dict)

    def next(self, now: float) -> str | None:
        """Returns the kind to look at; None when none is due yet."""
        kinds = [kind for kind in KINDS if self.asked.takes(kind)]
        return next((kind for kind in kinds if now >= self._due.get(kind, now)), None)

    def done(self, kind: str, started: float, ended: float, busy: float) -> None:
        """busy: for how long the application's database searched."""
        if kind in _RECORDED:
            self._due[kind] = ended + max(EVERY, WHOLE_REST * busy)
        elif kind in (RUN, RUN_MODE):
            self._due[kind] = started + (COMPARED_EVERY if kind == RUN else RUN_MODES_EVERY)
        else:
            self._due[kind] = started + max(COMPARED_EVERY, 20 * (ended - started))


#: One sort of looks, until ``Looking`` ends.
Looks = Callable[["Looking"], None]


class Looking:
    """A thread for each sort of looks, for as long as the block lasts. Leaving it lets each finish
    its batch."""

    def __init__(self, sorts: Iterable[Looks]) -> None:
        self._ended = Event()
        self._failed: BaseException | None = None
        self._threads = [Thread(target=self._run, args=[looks], daemon=True) for looks in sorts]

    def __enter__(self) -> Looking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, looks: Looks) -> None:
        try:
            looks(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by ``wait``
            self._failed = error

    def stop_if_ended(self, outcome: Outcome) -> None:
        """Called between two batches."""
        if self._ended.is_set():
            raise Stopped

    def rest(self, seconds: float) -> None:
        """For the threads, between two looks."""
        if self._ended.wait(seconds):
            raise Stopped

    def wait(self) -> None:
        """Waits until a thread fails, and raises its error."""
        while self._failed is None:
            time.sleep(_FAILED_EVERY)
        raise self._failed


class Watching:
    """What outlives the connection to the application. after: told of each look that did something;
    seen: told of all."""

    def __init__(self, asked: Asked, seen: Watched, after: Callable[[Outcome], None]) -> None:
        self._asked, self._seen, self._after = asked, seen, after
        self._memory, self._telling = Memory(), Lock()
        taken = ([kind for kind in each if asked.takes(kind)] for each in (_RECORDED, _COMPARED))
        groups = [replace(asked, kinds=kinds) for kinds in taken if kinds]
        self._quick = [QuickLooks(group) for group in groups]
        self._whole = [WholeLooks(group) for group in groups]

    def looking(self, sides: Opened) -> Looking:
        quick = [partial(self._quick_looks, sides, looks) for looks in self._quick]
        whole = [partial(self._whole_looks, sides, looks) for looks in self._whole]
        return Looking([*quick, *whole])

    def _quick_looks(self, sides: Opened, looks: QuickLooks, looking: Looking) -> None:
        while True:
            started = time.monotonic()
            busy = self._look(sides, looks.next(started), looking)
            self._seen.looks_again()
            looking.rest(looks.done(started, busy))

    def _whole_looks(self, sides: Opened, looks: WholeLooks, looking: Looking) -> None:
        while True:
            started = time.monotonic()
            kind = looks.next(started)
            if kind is None:
                looking.rest(EVERY / 2)
                continue
            busy = self._look(sides, replace(self._asked, kinds=(kind,)), looking)
            looks.done(kind, started, time.monotonic(), busy)

    def _look(self, sides: Opened, asked: Asked, looking: Looking) -> float:
        """Seconds for which the application's database searched."""
        outcome = Outcome(looking.stop_if_ended, memory=self._memory)
        busy = sides.agent.busy
        try:
            reconcile(sides, asked, outcome)
        finally:
            with self._telling:
                self._seen.passed(outcome)
                if outcome.numbers:
                    self._after(outcome)
        return sides.agent.busy - busy


def watch(
    wishes: ApplicationOptions,
    lms_url: str,
    asked: Asked,
    *,
    concurrency: int = CONCURRENCY,
    began: Callable[[str, str], None],
    after: Callable[[Outcome], None],
    troubled: Callable[[str, float], None],
    watched: Watched | None = None,
    stopping: Stopping,
) -> None:
    """Until SIGTERM or SIGINT. began: told the application's title and the LMS's address, each
    time both are reached; after: told of each look that did something; troubled: why, and the
    seconds until the next try; watched: told of everything; stopping: hears the signals. The
    application and the LMS may be
    restarted meanwhile."""
    seen, wait = watched or Watched(), _FIRST_WAIT
    watching = Watching(asked, seen, after)
    with stopping.listening():
        while True:
            opened = time.monotonic()
            try:
                with opened_application(wishes) as (checkout, adapter, agent):
                    check(agent, adapter, asked)
                    sides = with_lms(checkout, adapter, agent, lms_url, concurrency, seen.around)
                    began(adapter.title, sides.lms.http.base_url)
                    seen.opens(sides)
                    with watching.looking(sides) as looking:
                        looking.wait()
            except (SidecarError, LmsError, *_OF_FILES) as error:
                if isinstance(error, _OF_FILES) and not seen.has_opened:
                    raise
                # Its folder may be replaced by a release of the application.
                stopping.stop_if_asked()
                if time.monotonic() - opened > _LONGEST_WAIT:
                    wait = _FIRST_WAIT
                reason = explained(error) if isinstance(error, LmsError) else str(error)
                seen.troubled(reason, wait)
                troubled(reason, wait)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
