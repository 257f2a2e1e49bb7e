"""``--watch``: checks the application continuously, in several threads.

Quick looks check what the application changed recently; whole looks check all rows, one kind at a
time. Kinds that are due according to the application's own tables have other threads than kinds
that must be compared with the LMS. So no quick look waits for a whole one or for a slow answer of
the LMS, and a change takes effect within seconds.
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

from usher.client.errors import LmsError, Throttled
from usher.connect.application.checkout import ApplicationOptions
from usher.connect.errors import ConnectError
from usher.contract.envfile import EnvFileError
from usher.sidecar.accounts import ACCOUNT
from usher.sidecar.enrollments import ENROLLMENT, UNENROLLMENT
from usher.sidecar.errors import SidecarError, explained
from usher.sidecar.opening import CONCURRENCY, Opened, opened_application, with_lms
from usher.sidecar.outcome import Memory, Outcome
from usher.sidecar.reconcile import KINDS, Scope, check, reconcile
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.runs import RUN
from usher.sidecar.watched import Watched

#: Seconds between two looks.
EVERY = 1.0
#: Seconds until the next try if the application or the LMS can't be reached: the first pause,
#: doubled each time, and the longest.
_FIRST_WAIT, _LONGEST_WAIT = 2.0, 60.0
#: Seconds of pause for each second that the application's database worked: quick and whole looks
#: together use at most a fifth of its time.
QUICK_REST, WHOLE_REST = 5.0, 30.0
#: Seconds between two whole looks that compare with the LMS, and between two at the modes of runs,
#: for which an LMS without the batch API needs a request for each run.
COMPARED_EVERY = 300.0
RUN_MODES_EVERY = 3600.0
#: Kinds that are due according to the application's own tables: if none is due, no request is sent.
_RECORDED = (ACCOUNT, ENROLLMENT, UNENROLLMENT)
_COMPARED = tuple(kind for kind in KINDS if kind not in _RECORDED)
#: Seconds within which the failure of a thread is noticed.
_FAILED_EVERY = 0.2
#: Seconds for a batch in progress after SIGTERM or SIGINT: less than the 60 after which containers
#: are killed. Otherwise an LMS that does not answer would delay the end for minutes.
PATIENCE = 30.0
_STOPPING = b"\nstopping after the batch in progress; a second Ctrl-C stops at once\n"
#: Errors of reading the application's files, which may be replaced by a new release.
_OF_FILES = (ConnectError, EnvFileError, OSError)
#: Seconds by which a look overlaps with the one before, because transactions commit later than
#: their timestamps.
_OVERLAP = 60.0


class Stopped(Exception):
    """SIGTERM or SIGINT was received, and no batch is in progress."""


class Stopping:
    """Handles SIGTERM and SIGINT: a batch in progress is finished and recorded, and no other begun.

    at_once: ends the process; nothing is lost, since the next run finds what is still due. It is
    called at a second signal, and when the batch takes longer than ``patience`` seconds.
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
            # Not with ``print``, because the signal may have interrupted one.
            os.write(2, _STOPPING)
        if not self._busy:
            raise Stopped

    @contextmanager
    def batches(self) -> Iterator[Callable[[Outcome], None]]:
        """Yields a function to call between two batches."""
        self._busy = True
        try:
            yield lambda outcome: self.stop_if_asked()
        finally:
            self._busy = False
        self.stop_if_asked()

    @property
    def is_set(self) -> bool:
        return self._asked.is_set()

    def stop_if_asked(self) -> None:
        if self._asked.is_set():
            raise Stopped


@dataclass
class QuickLooks:
    """The schedule of looks at what the application changed since the last look. With a million
    learners such a look takes a fraction of a whole one. Times are of ``time.monotonic``."""

    scope: Scope
    _looked: float | None = None

    def next(self, now: float) -> Scope:
        since = 0.0 if self._looked is None else now - self._looked
        return replace(self.scope, changed_in=since + _OVERLAP)

    def done(self, started: float, busy: float) -> float:
        """Returns seconds until the next look. busy: seconds that the application's database
        worked."""
        self._looked = started
        return max(EVERY, QUICK_REST * busy)


@dataclass
class WholeLooks:
    """The schedule of looks at all rows, one kind at a time, each as often as its cost allows; in a
    small application as often as quick looks. They also find changes that no column shows, such as
    bulk updates and deleted rows. Times are of ``time.monotonic``."""

    scope: Scope
    _due: dict[str, float] = field(default_factory=dict)

    def next(self, now: float) -> str | None:
        """Returns the kind to look at; None if none is due yet."""
        kinds = [kind for kind in KINDS if self.scope.takes(kind)]
        return next((kind for kind in kinds if now >= self._due.get(kind, now)), None)

    def done(self, kind: str, started: float, ended: float, busy: float) -> None:
        """busy: seconds that the application's database worked."""
        if kind in _RECORDED:
            self._due[kind] = ended + max(EVERY, WHOLE_REST * busy)
        elif kind in (RUN, RUN_MODE):
            self._due[kind] = started + (COMPARED_EVERY if kind == RUN else RUN_MODES_EVERY)
        else:
            self._due[kind] = started + max(COMPARED_EVERY, 20 * (ended - started))


#: Runs one sort of looks until ``Looking`` ends.
Looks = Callable[["Looking"], None]


class Looking:
    """Runs a thread for each sort of looks while the block lasts. On leaving, each thread finishes
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
        """Raises Stopped if the looks are to end. Called between two batches."""
        if self._ended.is_set():
            raise Stopped

    def rest(self, seconds: float) -> None:
        """Waits between two looks, in a thread of them."""
        if self._ended.wait(seconds):
            raise Stopped

    def wait(self) -> None:
        """Waits until a thread fails, and raises its error."""
        while self._failed is None:
            time.sleep(_FAILED_EVERY)
        raise self._failed


class Watching:
    """The state that is kept when the application is opened again. after: called for each look that
    processed rows. seen: records all looks."""

    def __init__(self, scope: Scope, seen: Watched, after: Callable[[Outcome], None]) -> None:
        self._scope, self._seen, self._after = scope, seen, after
        self._memory, self._telling = Memory(), Lock()
        taken = ([kind for kind in each if scope.takes(kind)] for each in (_RECORDED, _COMPARED))
        groups = [replace(scope, kinds=kinds) for kinds in taken if kinds]
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
            busy = self._look(sides, replace(self._scope, kinds=(kind,)), looking)
            looks.done(kind, started, time.monotonic(), busy)

    def _look(self, sides: Opened, scope: Scope, looking: Looking) -> float:
        """Makes one look. Returns seconds that the application's database worked.

        If the LMS limits the rate of requests, waits and makes the look again: the limit concerns
        the kinds of this look, and others continue.
        """
        busy = sides.agent.busy
        while pause := self._pass(sides, scope, looking):
            looking.rest(pause)
        return sides.agent.busy - busy

    def _pass(self, sides: Opened, scope: Scope, looking: Looking) -> float:
        """Returns seconds to wait before another try; 0 if none is necessary."""
        outcome = Outcome(looking.stop_if_ended, memory=self._memory)
        try:
            reconcile(sides, scope, outcome)
        except Throttled as error:
            outcome.add_error(next(iter(scope.kinds)), sides.adapter.title, error)
            return error.retry_after or _FIRST_WAIT
        finally:
            with self._telling:
                self._seen.passed(outcome)
                if outcome.numbers:
                    self._after(outcome)
        return 0.0


def watch(
    wishes: ApplicationOptions,
    lms_url: str,
    scope: Scope,
    *,
    concurrency: int = CONCURRENCY,
    began: Callable[[str, str], None],
    after: Callable[[Outcome], None],
    troubled: Callable[[str, float], None],
    watched: Watched | None = None,
    stopping: Stopping,
) -> None:
    """Runs until SIGTERM or SIGINT. began: called with the application's title and the LMS's
    address each time both are reached. after: called for each look that processed rows. troubled:
    called with an error and the seconds until the next try. watched: records everything. stopping:
    handles the signals. The application and the LMS may be restarted meanwhile."""
    seen, wait = watched or Watched(), _FIRST_WAIT
    watching = Watching(scope, seen, after)
    with stopping.listening():
        while True:
            opened = time.monotonic()
            try:
                with opened_application(wishes) as (checkout, adapter, agent):
                    check(agent, adapter, scope)
                    sides = with_lms(checkout, adapter, agent, lms_url, concurrency, seen.around)
                    began(adapter.title, sides.lms.http.base_url)
                    seen.opens(sides)
                    with watching.looking(sides) as looking:
                        looking.wait()
            except (SidecarError, LmsError, *_OF_FILES) as error:
                if isinstance(error, _OF_FILES) and not seen.has_opened:
                    raise
                # The application's folder may be replaced by a new release.
                stopping.stop_if_asked()
                if time.monotonic() - opened > _LONGEST_WAIT:
                    wait = _FIRST_WAIT
                reason = explained(error) if isinstance(error, LmsError) else str(error)
                seen.troubled(reason, wait)
                troubled(reason, wait)
                time.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
