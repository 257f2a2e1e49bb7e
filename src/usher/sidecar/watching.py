"""``--watch``: checks the application continuously, in several threads.

Quick passes process rows that the application changed recently. Full passes process all rows, one
kind at a time. Kinds that are due according to the application's own tables have other threads than
kinds that must be compared with the LMS. So no quick pass waits for a full one or for a slow answer
of the LMS, and a change takes effect within seconds.
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
from usher.sidecar.errors import SidecarError, explain
from usher.sidecar.reconcile import KINDS, PassScope, check_scope, reconcile
from usher.sidecar.run_modes import RUN_MODE
from usher.sidecar.runs import RUN
from usher.sidecar.session import CONCURRENCY, Session, open_application, open_session
from usher.sidecar.summary import RowMemory, Summary
from usher.sidecar.watch_state import WatchState

#: Seconds between two passes.
SECONDS_BETWEEN_PASSES = 1.0
#: Seconds until a thread of full passes checks again which kind is due, if none is.
_SECONDS_BETWEEN_DUE_CHECKS = 0.5
#: Seconds until the next try if the application or the LMS can't be reached. Each further wait is
#: twice as long, up to the longest.
_FIRST_WAIT_SECONDS = 2.0
_MAX_WAIT_SECONDS = 60.0
#: Seconds of pause for each second that the application's database worked for the thread of the
#: passes, which reads rows. Quick and full passes together use at most a fifth of the database's
#: time for that.
QUICK_PAUSE_FACTOR = 5.0
FULL_PAUSE_FACTOR = 30.0
#: Seconds between the starts of two full passes that compare with the LMS; longer if a pass takes
#: long, so that these passes use at most a twentieth of the time.
SECONDS_BETWEEN_COMPARISONS = 300.0
_COMPARISON_INTERVAL_FACTOR = 20
#: Seconds between two full passes that compare the modes of runs. An LMS without the batch API
#: needs a request for each run.
SECONDS_BETWEEN_RUN_MODES = 3600.0
#: Kinds that are due according to the application's own tables: if none is due, no request is sent.
_RECORDED_KINDS = (ACCOUNT, ENROLLMENT, UNENROLLMENT)
_COMPARED_KINDS = tuple(kind for kind in KINDS if kind not in _RECORDED_KINDS)
#: Seconds within which the failure of a thread is noticed.
_FAILURE_CHECK_SECONDS = 0.2
#: Seconds that a batch in progress may take after SIGTERM or SIGINT, even if the LMS does not
#: answer. Containers are killed after 60 seconds.
LAST_BATCH_SECONDS = 30.0
_STANDARD_ERROR = 2
_STOPPING_LINE = b"\nstopping after the batch in progress; a second Ctrl-C stops immediately\n"
#: Errors of reading the application's files, which a new release may be replacing.
_FILE_ERRORS = (ConnectError, EnvFileError, OSError)
#: Seconds by which a pass overlaps with the one before, because transactions commit later than
#: their timestamps.
_OVERLAP_SECONDS = 60.0


class Stopped(Exception):
    """SIGTERM or SIGINT was received, and no batch is in progress."""


class Stopping:
    """Handles SIGTERM and SIGINT: a batch in progress is finished and recorded, and no other begun.

    end_now: ends the process; nothing is lost, since the next start finds the rows that are still
    due. ``end_now`` is called at a second signal, and when the batch takes longer than ``patience``
    seconds after the first signal.
    """

    def __init__(self, end_now: Callable[[], None], patience: float = LAST_BATCH_SECONDS) -> None:
        self._requested = Event()
        #: Whether a signal must wait for a batch, see ``stop_between_batches``.
        self._in_batches = False
        self._end_now = end_now
        self._timer = Timer(patience, end_now)
        self._timer.daemon = True

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handles the signals within the block, and ends the block when Stopped is raised in it.
        Then restores the earlier handlers."""
        handler_of_sigterm = signal.signal(signal.SIGTERM, self._on_signal)
        handler_of_sigint = signal.signal(signal.SIGINT, self._on_signal)
        try:
            yield
        except Stopped:
            return
        finally:
            self._timer.cancel()
            signal.signal(signal.SIGTERM, handler_of_sigterm)
            signal.signal(signal.SIGINT, handler_of_sigint)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """At the first signal, prints a line, and raises Stopped unless a batch is in progress. At
        the second, ends the process."""
        if self._requested.is_set():
            self._end_now()
            return
        self._requested.set()
        self._timer.start()
        with suppress(OSError):
            # Not with ``print``, because the signal may have interrupted another ``print``.
            os.write(_STANDARD_ERROR, _STOPPING_LINE)
        if not self._in_batches:
            raise Stopped

    @contextmanager
    def stop_between_batches(self) -> Iterator[Callable[[Summary], None]]:
        """Within the block, a signal does not interrupt a batch. Yields a function to call between
        two batches, as ``Summary.progress``; it raises Stopped after a signal."""

        def stop_if_requested(_summary: Summary) -> None:
            self.stop_if_requested()

        self._in_batches = True
        try:
            yield stop_if_requested
        finally:
            self._in_batches = False
        self.stop_if_requested()

    @property
    def is_requested(self) -> bool:
        """Whether a signal was received."""
        return self._requested.is_set()

    def stop_if_requested(self) -> None:
        """Raises Stopped if a signal was received."""
        if self._requested.is_set():
            raise Stopped


@dataclass
class QuickPasses:
    """The schedule of passes over the rows that the application changed since the last pass. With a
    million learners such a pass takes a fraction of a full one. Times are of ``time.monotonic``."""

    scope: PassScope
    #: When the last pass that ended began; None before the first has ended.
    _last_start: float | None = None

    def next_scope(self, now: float) -> PassScope:
        """Returns the scope of a pass that starts now. The first pass need not reach further back
        than the overlap: full passes find the older changes."""
        seconds_since_last = 0.0 if self._last_start is None else now - self._last_start
        return replace(self.scope, changed_within_seconds=seconds_since_last + _OVERLAP_SECONDS)

    def finish_pass(self, started: float, busy_seconds: float) -> float:
        """Records that the pass which began at ``started`` has ended. Returns the seconds until the
        next pass. busy_seconds: as ``_run_pass_within_rate_limit`` returns them."""
        self._last_start = started
        return max(SECONDS_BETWEEN_PASSES, QUICK_PAUSE_FACTOR * busy_seconds)


@dataclass
class FullPasses:
    """The schedule of passes over all rows, one kind at a time, each as often as its cost allows.
    In a small application, passes that read only its own tables follow each other as quickly as
    quick passes. Full passes also find changes that no column shows, such as bulk updates and
    deleted rows. Times are of ``time.monotonic``."""

    scope: PassScope
    #: Kind → time of its next pass.
    _due_times: dict[str, float] = field(default_factory=dict)

    def next_kind(self, now: float) -> str | None:
        """Returns the kind of the next pass; None if none is due yet. At first every kind is
        due."""
        for kind in KINDS:
            if self.scope.includes(kind) and now >= self._due_times.get(kind, now):
                return kind
        return None

    def finish_pass(self, kind: str, started: float, ended: float, busy_seconds: float) -> None:
        """Sets the time of the next pass of this kind. busy_seconds: as
        ``_run_pass_within_rate_limit`` returns them."""
        if kind in _RECORDED_KINDS:
            pause = max(SECONDS_BETWEEN_PASSES, FULL_PAUSE_FACTOR * busy_seconds)
            due_time = ended + pause
        elif kind == RUN:
            due_time = started + SECONDS_BETWEEN_COMPARISONS
        elif kind == RUN_MODE:
            due_time = started + SECONDS_BETWEEN_RUN_MODES
        else:
            duration = ended - started
            interval = max(SECONDS_BETWEEN_COMPARISONS, _COMPARISON_INTERVAL_FACTOR * duration)
            due_time = started + interval
        self._due_times[kind] = due_time


#: A thread's function: runs quick or full passes until ``PassThreads`` ends.
PassFunction = Callable[["PassThreads"], None]


class PassThreads:
    """Runs each of the functions in a thread of its own until the block ends. Then each thread
    finishes its batch."""

    def __init__(self, functions: Iterable[PassFunction]) -> None:
        self._ended = Event()
        #: The error of a thread that failed, the last one if several failed.
        self._error: BaseException | None = None
        self._threads = [
            Thread(target=self._run, args=[function], daemon=True) for function in functions
        ]

    def __enter__(self) -> PassThreads:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, run_passes: PassFunction) -> None:
        """Runs in a thread, until ``run_passes`` raises Stopped or another error."""
        try:
            run_passes(self)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by ``wait``
            self._error = error

    def stop_if_ended(self, summary: Summary) -> None:
        """Raises Stopped if the passes are to end. Called between two batches, as
        ``Summary.progress``."""
        if self._ended.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Waits between two passes; called by their thread. Raises Stopped if the passes are to
        end."""
        if self._ended.wait(seconds):
            raise Stopped

    def wait(self) -> None:
        """Waits until a thread fails, and raises its error."""
        while self._error is None:
            time.sleep(_FAILURE_CHECK_SECONDS)
        raise self._error


class Watching:
    """The passes over an application. Their schedules and memory are kept when the application is
    opened again. on_pass: called for each pass that processed rows. state: records all passes."""

    def __init__(
        self, scope: PassScope, state: WatchState, on_pass: Callable[[Summary], None]
    ) -> None:
        self._scope = scope
        self._state = state
        self._on_pass = on_pass
        self._row_memory = RowMemory()
        # Held while a pass is reported, so that the reports of two threads don't mix.
        self._report_lock = Lock()
        # A scope for recorded kinds and one for compared kinds. Each schedule has its own thread.
        scopes = []
        for kinds in (_RECORDED_KINDS, _COMPARED_KINDS):
            included_kinds = [kind for kind in kinds if scope.includes(kind)]
            if included_kinds:
                scopes.append(replace(scope, kinds=included_kinds))
        self._quick_schedules = [QuickPasses(scope) for scope in scopes]
        self._full_schedules = [FullPasses(scope) for scope in scopes]

    def make_threads(self, session: Session) -> PassThreads:
        """Returns the threads of quick and full passes, which are not started yet."""
        quick = [
            partial(self._run_quick_passes, session, schedule) for schedule in self._quick_schedules
        ]
        full = [
            partial(self._run_full_passes, session, schedule) for schedule in self._full_schedules
        ]
        return PassThreads([*quick, *full])

    def _run_quick_passes(
        self, session: Session, schedule: QuickPasses, threads: PassThreads
    ) -> None:
        while True:
            started = time.monotonic()
            busy_seconds = self._run_pass_within_rate_limit(
                session, schedule.next_scope(started), threads
            )
            self._state.record_success()
            threads.pause(schedule.finish_pass(started, busy_seconds))

    def _run_full_passes(
        self, session: Session, schedule: FullPasses, threads: PassThreads
    ) -> None:
        while True:
            started = time.monotonic()
            kind = schedule.next_kind(started)
            if kind is None:
                threads.pause(_SECONDS_BETWEEN_DUE_CHECKS)
                continue
            busy_seconds = self._run_pass_within_rate_limit(
                session, replace(self._scope, kinds=(kind,)), threads
            )
            schedule.finish_pass(kind, started, time.monotonic(), busy_seconds)

    def _run_pass_within_rate_limit(
        self, session: Session, scope: PassScope, threads: PassThreads
    ) -> float:
        """Runs one pass. Returns the seconds that the application's database worked for this
        thread. Threads that process a page of accounts or enrollments don't count.

        If the LMS limits the rate of requests, waits and runs the pass again. The limit concerns
        the kinds of this pass only, so other threads continue.
        """
        busy_before = session.agent.busy_seconds
        while pause := self._run_pass(session, scope, threads):
            threads.pause(pause)
        return session.agent.busy_seconds - busy_before

    def _run_pass(self, session: Session, scope: PassScope, threads: PassThreads) -> float:
        """Runs one pass. Returns the seconds to wait before it is run again because of the LMS's
        rate limit; 0 if the limit did not end it."""
        summary = Summary(progress=threads.stop_if_ended, row_memory=self._row_memory)
        try:
            reconcile(session, scope, summary)
        except Throttled as error:
            # The error concerns all rows, so the first kind stands for all kinds of the pass.
            summary.add_error(next(iter(scope.kinds)), session.adapter.title, error)
            return error.retry_after or _FIRST_WAIT_SECONDS
        finally:
            with self._report_lock:
                self._state.record_pass(summary)
                if summary.numbers:
                    self._on_pass(summary)
        return 0.0


def watch(
    options: ApplicationOptions,
    lms_url: str,
    scope: PassScope,
    *,
    concurrency: int = CONCURRENCY,
    on_start: Callable[[str, str], None],
    on_pass: Callable[[Summary], None],
    on_trouble: Callable[[str, float], None],
    state: WatchState | None = None,
    stopping: Stopping,
) -> None:
    """Runs until SIGTERM or SIGINT. on_start: called with the application's title and the LMS's
    address each time the application and the LMS are reached. on_pass: called for each pass that
    processed rows. on_trouble: called with an error and the seconds until the next try. state:
    records everything. stopping: handles the signals. The application and the LMS may be restarted
    meanwhile. Raises ConnectError, EnvFileError or OSError if the application's files can't be read
    before the application and the LMS are reached for the first time."""
    state = state or WatchState()
    wait = _FIRST_WAIT_SECONDS
    watching = Watching(scope, state, on_pass)
    with stopping.handle_signals():
        while True:
            started = time.monotonic()
            # Runs until the application or the LMS can't be reached.
            try:
                with open_application(options) as (checkout, adapter, agent):
                    check_scope(agent, adapter, scope)
                    session = open_session(
                        checkout,
                        adapter,
                        agent,
                        lms_url,
                        concurrency,
                        wrap_request=state.measure_request,
                    )
                    on_start(adapter.title, session.lms.http.base_url)
                    state.record_start(session)
                    with watching.make_threads(session) as threads:
                        threads.wait()
            except (SidecarError, LmsError, *_FILE_ERRORS) as error:
                # After the first start, a new release may be replacing the application's folder.
                if isinstance(error, _FILE_ERRORS) and not state.has_opened:
                    raise
                stopping.stop_if_requested()
                if time.monotonic() - started > _MAX_WAIT_SECONDS:
                    # Both were reached in the meantime, so this is a new outage.
                    wait = _FIRST_WAIT_SECONDS
                reason = explain(error) if isinstance(error, LmsError) else str(error)
                state.record_trouble(reason, wait)
                on_trouble(reason, wait)
                time.sleep(wait)
                wait = min(2 * wait, _MAX_WAIT_SECONDS)
