"""Runs the threads of several processes one at a time, in an order that depends on the seed.

Every thread is a greenlet. It yields control where interrupting a real thread could make a
difference: when it waits, and before and after each transaction. Time is virtual and advances only
when no thread can run.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

#: Virtual seconds that one step takes, and that one reading of the clock takes. So no two times are
#: equal.
STEP_SECONDS, CLOCK_READING_SECONDS = 1e-3, 1e-6


class ThreadEnded(BaseException):
    """Raised in threads that are still alive at the end of their seed, to end them."""


class TooManySteps(Exception):
    """The seed took too many steps."""


@dataclass(eq=False)
class Process:
    """One process of the application."""

    name: str
    #: Seconds by which the process's clock is ahead of the database's clock.
    ahead: float = 0.0
    use_batch_api: bool = True
    is_dead: bool = False
    #: When the last pause, as by SIGSTOP, began, and when it ends.
    paused_at: float = -1.0
    paused_until: float = -1.0
    #: Objects of this process only, such as its LMS client.
    own_objects: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def was_paused(self, since: float, now: float) -> bool:
        """Whether the process was paused at any time since ``since``."""
        return self.paused_until > since and self.paused_at < now


class Task(greenlet):
    """A thread of a process. The thread can run when ``until()`` is true, or at ``deadline``; at
    any time if both are None. jobs: (kind, job) of the jobs that the thread processes, for the
    invariants; None between jobs. began: the virtual time when the thread began with these jobs."""

    def __init__(self, process: Process, act: Callable[[], Any], parent: greenlet) -> None:
        super().__init__(act, parent)
        self.process = process
        self.until: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.jobs: Any = None
        self.began = 0.0

    def can_run(self, now: float) -> bool:
        if self.until is None and self.deadline is None:
            return True
        if self.deadline is not None and self.deadline <= now:
            return True
        return self.until is not None and self.until()


class Scheduler:
    """Chooses the thread that takes the next step. max_steps: the number of steps after which
    ``run`` raises TooManySteps. observe: called after each step."""

    def __init__(self, seed: int, *, max_steps: int = 60_000) -> None:
        self.rng = random.Random(f"schedule {seed}")
        #: Random numbers of the code under test come from a generator of their own.
        self.code_rng = random.Random(f"code {seed}")
        #: The virtual time, in seconds.
        self.now = 0.0
        self.steps = 0
        self.observe: Callable[[], None] = lambda: None
        #: Whether the seed is over, so that every thread that waits must end.
        self.is_over = False
        self._max_steps = max_steps
        #: The thread that took the last step; None if the last step was an event of ``call_at``.
        self.last_task: Task | None = None
        #: The threads that have not ended.
        self.tasks: list[Task] = []
        #: Events of ``call_at``, as a heap: time, number of the event, and what happens.
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._event_count = 0  # so that events at the same time happen in their order
        #: The greenlet of ``run``, to which a thread that waits switches.
        self._hub = getcurrent()

    # Called by the scheduler's users

    def spawn(self, process: Process, act: Callable[[], Any]) -> Task:
        """Start a thread of this process, which calls ``act``."""
        task = Task(process, act, self._hub)
        self.tasks.append(task)
        return task

    def call_at(self, moment: float, act: Callable[[], None]) -> None:
        """Call ``act`` at this virtual time, independent of all processes. ``act`` must not
        wait."""
        self._event_count += 1
        heapq.heappush(self._events, (moment, self._event_count, act))

    def call_after(self, seconds: float, act: Callable[[], None]) -> None:
        self.call_at(self.now + seconds, act)

    def kill(self, process: Process) -> None:
        """Kill a process as by SIGKILL: its threads stop, without cleaning up."""
        process.is_dead = True

    @property
    def task(self) -> Task | None:
        """The running thread; None while the scheduler itself runs."""
        task = getcurrent()
        return task if isinstance(task, Task) else None

    def read_clock(self) -> float:
        """The virtual time, a little later at each call, so that no two calls return the same."""
        self.now += CLOCK_READING_SECONDS
        return self.now

    # Called by threads

    def wait(self, until: Callable[[], bool] | None, seconds: float | None = None) -> bool:
        """Let other threads run until ``until()`` is true or the time is over. Return whether
        ``until()`` is true. until: None to wait for the time alone. seconds: None for no limit."""
        task = self.task
        if self.is_over:
            raise ThreadEnded
        if task is None:  # outside of threads, such as in an event: nothing else can run meanwhile
            if until is None or not until():
                raise AssertionError("only a thread can wait")
            return True
        task.until = until
        task.deadline = None if seconds is None else self.now + max(0.0, seconds)
        self._hub.switch()
        if self.is_over:
            raise ThreadEnded
        task.until = task.deadline = None
        return until is None or until()

    def let_others_run(self) -> None:
        """Let the scheduler choose any thread, this one included, for the next step."""
        if self.task is not None:
            self.wait(None, 0.0)

    # The loop

    def run(self, is_done: Callable[[], bool]) -> None:
        """Run until ``is_done()`` is true or no thread can run any more. Raises what a thread
        raised, and TooManySteps."""
        while not is_done():
            self.tasks = [task for task in self.tasks if not task.dead and not task.process.is_dead]
            ready = [
                task for task in self.tasks if self._is_running(task) and task.can_run(self.now)
            ]
            while self._events and self._next_event_at() <= self.now:
                ready = []  # the event may change which threads can run
                self.last_task = None
                _, _, act = heapq.heappop(self._events)
                act()
                self.observe()
            # Time advances only if no thread can run now, not even after the events.
            if ready:
                self._step(self.rng.choice(ready))
            elif not self._is_any_task_ready() and not self._advance():
                return

    def _next_event_at(self) -> float:
        moment, _, _ = self._events[0]
        return moment

    def _is_any_task_ready(self) -> bool:
        """Whether a thread can run now, perhaps because of an event."""
        return any(self._is_running(task) and task.can_run(self.now) for task in self.tasks)

    def _is_running(self, task: Task) -> bool:
        """Whether the thread's process is neither dead nor paused."""
        return not task.process.is_dead and task.process.paused_until <= self.now

    def _step(self, task: Task) -> None:
        """Let this thread run until it waits."""
        self.steps += 1
        if self.steps > self._max_steps:
            raise TooManySteps(f"{self._max_steps} steps were not enough")
        self.now += STEP_SECONDS
        self.last_task = task
        task.switch()
        self.observe()

    def _advance(self) -> bool:
        """Move the time to the next event, deadline or end of a pause. Returns False if there is
        none."""
        moments = [self._next_event_at()] if self._events else []
        for task in self.tasks:
            paused_until = task.process.paused_until
            if task.deadline is not None:
                moments.append(max(task.deadline, paused_until))
            elif paused_until > self.now:
                moments.append(paused_until)
        if not moments:
            return False
        self.now = max(self.now, min(moments))
        return True

    @contextmanager
    def ending_threads(self) -> Iterator[None]:
        """At the end of the block, end all threads: each gets ThreadEnded, so that its ``finally``
        blocks run."""
        self._hub = getcurrent()
        tasks: list[Task] = []
        spawn = self.spawn

        def spawn_and_remember(process: Process, act: Callable[[], Any]) -> Task:
            tasks.append(spawn(process, act))
            return tasks[-1]

        self.spawn = spawn_and_remember  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.is_over = True
            for task in tasks:
                if task and not task.dead:  # a greenlet that has not started is false
                    with suppress(ThreadEnded, Exception):
                        task.throw(ThreadEnded)
