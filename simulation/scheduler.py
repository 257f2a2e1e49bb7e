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

#: Virtual seconds for one step, and for one reading of the clock, so that no two times are equal.
STEP, LOOK = 1e-3, 1e-6


class ThreadEnded(BaseException):
    """Raised in threads that are still alive at the end of their seed, to end them."""


class TooLong(Exception):
    """The seed took too many steps."""


@dataclass(eq=False)
class Process:
    """One process of the application. ahead: seconds by which its clock is ahead of the database's.
    paused_until: it is paused until then, as by SIGSTOP; paused_at: when the pause began. world:
    objects of its own, such as its LMS client."""

    name: str
    ahead: float = 0.0
    use_batch_api: bool = True
    is_dead: bool = False
    paused_at: float = -1.0
    paused_until: float = -1.0
    world: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def was_paused(self, since: float, now: float) -> bool:
        """Whether the process was paused at any time since ``since``."""
        return self.paused_until > since and self.paused_at < now


class Task(greenlet):
    """A thread of a process. It can run when ``until()`` is true or at ``deadline``; at any time if
    both are None. jobs: (kind, job) of the jobs that it works on, for the invariants; None between
    jobs. began: the virtual time when it began with these jobs."""

    def __init__(self, process: Process, act: Callable[[], Any], parent: greenlet) -> None:
        super().__init__(act, parent)
        self.process = process
        self.until: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.jobs: Any = None
        self.began = 0.0

    def can_go(self, now: float) -> bool:
        if self.until is None and self.deadline is None:
            return True
        if self.deadline is not None and self.deadline <= now:
            return True
        return self.until is not None and self.until()


class Scheduler:
    """Chooses the thread that takes the next step. most_steps: the number of steps after which
    ``run`` raises TooLong. observe: called after each step."""

    def __init__(self, seed: int, *, most_steps: int = 60_000) -> None:
        self.rng = random.Random(f"schedule {seed}")
        #: Random numbers of the code under test come from a generator of their own.
        self.code_draw = random.Random(f"code {seed}")
        self.now = 0.0
        self.steps = 0
        self.observe: Callable[[], None] = lambda: None
        self.is_over = False
        self._most_steps = most_steps
        #: The thread that took the last step; None if the last step was an event of ``at``.
        self.task_that_ran: Task | None = None
        self.tasks: list[Task] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._hub = getcurrent()

    # From anywhere

    def spawn(self, process: Process, act: Callable[[], Any]) -> Task:
        task = Task(process, act, self._hub)
        self.tasks.append(task)
        return task

    def at(self, moment: float, act: Callable[[], None]) -> None:
        """Call ``act`` at this virtual time, independent of all processes. ``act`` must not
        wait."""
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.at(self.now + seconds, act)

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
        self.now += LOOK
        return self.now

    # From a thread

    def wait(self, until: Callable[[], bool] | None, seconds: float | None = None) -> bool:
        """Let other threads run until ``until()`` is true or the time is over. Return whether
        ``until()`` is true."""
        task = self.task
        if self.is_over:
            raise ThreadEnded
        if task is None:
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
        """Let any thread run next."""
        if self.task is not None:
            self.wait(None, 0.0)

    # The loop

    def run(self, is_done: Callable[[], bool]) -> None:
        """Run until ``is_done()`` is true or no thread can run any more. Raises what a thread
        raised, and TooLong."""
        while not is_done():
            self.tasks = [t for t in self.tasks if not t.dead and not t.process.is_dead]
            ready = [t for t in self.tasks if self._runs(t) and t.can_go(self.now)]
            while self._events and self._events[0][0] <= self.now:
                ready = []
                self.task_that_ran = None
                heapq.heappop(self._events)[2]()
                self.observe()
            if ready:
                self._step(self.rng.choice(ready))
            elif not self._somebody_is_ready() and not self._advance():
                return

    def _somebody_is_ready(self) -> bool:
        """Whether a thread can run now, perhaps because of an event."""
        return any(self._runs(task) and task.can_go(self.now) for task in self.tasks)

    def _runs(self, task: Task) -> bool:
        return not task.process.is_dead and task.process.paused_until <= self.now

    def _step(self, task: Task) -> None:
        self.steps += 1
        if self.steps > self._most_steps:
            raise TooLong(f"{self._most_steps} steps were not enough")
        self.now += STEP
        self.task_that_ran = task
        task.switch()
        self.observe()

    def _advance(self) -> bool:
        """Move the time to the next event, deadline or end of a pause. Returns False if there is
        none."""
        moments = [self._events[0][0]] if self._events else []
        for task in self.tasks:
            paused = task.process.paused_until
            if task.deadline is not None:
                moments.append(max(task.deadline, paused))
            elif paused > self.now:
                moments.append(paused)
        if not moments:
            return False
        self.now = max(self.now, min(moments))
        return True

    @contextmanager
    def ending(self) -> Iterator[None]:
        """At the end of the block, end all threads: each gets ThreadEnded, so that its ``finally``
        blocks run."""
        self._hub = getcurrent()
        tasks: list[Task] = []
        spawn = self.spawn

        def spawned(process: Process, act: Callable[[], Any]) -> Task:
            tasks.append(spawn(process, act))
            return tasks[-1]

        self.spawn = spawned  # type: ignore[method-assign]
        try:
            yield
        finally:
            self.is_over = True
            for task in tasks:
                if task and not task.dead:
                    with suppress(ThreadEnded, Exception):
                        task.throw(ThreadEnded)
