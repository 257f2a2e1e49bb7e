"""Replacements for ``threading``, ``queue``, ``time`` and similar modules in the simulation."""

from __future__ import annotations

import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple

from simulation.scheduler import Process, Scheduler

#: Virtual time begins here.
BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)

_current: Scheduler | None = None


def set_scheduler(scheduler: Scheduler | None) -> None:
    """Set the scheduler whose time and threads are used from now on."""
    global _current
    _current = scheduler


def scheduler() -> Scheduler:
    """The scheduler of the seed that is being simulated."""
    if _current is None:
        raise RuntimeError("no seed is being simulated")
    return _current


def _current_process() -> Process:
    """The process of the current thread, for a new thread."""
    task = scheduler().task
    if task is None:
        raise AssertionError("only a simulated thread can start threads")
    return task.process


def database_time() -> datetime:
    """The time by the database's clock."""
    return BEGIN + timedelta(seconds=scheduler().read_clock())


def process_time() -> datetime:
    """The time by the clock of the current process."""
    task = scheduler().task
    ahead = task.process.ahead if task is not None else 0.0
    return database_time() + timedelta(seconds=ahead)


class Time:
    """Replaces the module ``time``."""

    @staticmethod
    def monotonic() -> float:
        # Usher's modules use 0.0 for "never", so the clock does not begin at 0.
        return time.monotonic() if _current is None else 1000.0 + _current.read_clock()

    perf_counter = monotonic

    @staticmethod
    def clock_gettime(_clock: int) -> float:
        return Time.monotonic()

    @staticmethod
    def time() -> float:
        return process_time().timestamp()

    @staticmethod
    def sleep(seconds: float) -> None:
        scheduler().wait(None, seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


class Datetime(datetime):
    """Replaces the class ``datetime``."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return process_time().astimezone(tz)


class Lock:
    """Replaces ``threading.Lock`` and ``threading.RLock``. Unlike with an RLock, a thread that has
    the lock can't acquire it again."""

    def __init__(self) -> None:
        self._locked = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if self._locked:
            if not blocking:
                return False
            seconds = None if timeout < 0 else timeout
            if not scheduler().wait(lambda: not self._locked, seconds):
                return False
        self._locked = True
        return True

    def release(self) -> None:
        self._locked = False

    def locked(self) -> bool:
        return self._locked

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Condition:
    """Replaces ``threading.Condition``."""

    def __init__(self, lock: Any = None) -> None:
        self._lock = lock or Lock()
        #: How often a notification was sent; each one wakes all waiting threads.
        self._notified = 0

    def __enter__(self) -> Any:
        return self._lock.__enter__()

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)

    def wait(self, timeout: float | None = None) -> bool:
        notified_before = self._notified
        return self._wait(lambda: self._notified != notified_before, timeout)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        return predicate() or self._wait(lambda: bool(predicate()), timeout)

    def _wait(self, until: Callable[[], bool], timeout: float | None) -> bool:
        self._lock.release()
        try:
            return scheduler().wait(until, timeout)
        finally:
            self._lock.acquire()

    def notify(self, _n: int = 1) -> None:
        self._notified += 1

    notify_all = notify


class Event:
    """Replaces ``threading.Event``."""

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True

    def clear(self) -> None:
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        return scheduler().wait(self.is_set, timeout)


class Thread:
    """Replaces ``threading.Thread``."""

    def __init__(self, *, target: Callable[..., Any], args: Any = (), **_: Any) -> None:
        self._act = lambda: target(*args)

    def start(self) -> None:
        """Start the thread in the current process."""
        scheduler().spawn(_current_process(), self._act)


class Threading:
    """Replaces the module ``threading``."""

    Lock = RLock = Lock
    Condition, Event, Thread = Condition, Event, Thread

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


class Queue:
    """Replaces ``queue.Queue`` and ``queue.SimpleQueue``; it has no limit."""

    def __init__(self, maxsize: int = 0) -> None:
        self._items: deque[Any] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)

    put_nowait = put

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not self._items and block:
            scheduler().wait(lambda: bool(self._items), timeout)
        return self.get_nowait()

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class Queues:
    """Replaces the module ``queue``."""

    Queue = SimpleQueue = Queue

    def __getattr__(self, name: str) -> Any:
        return getattr(queue, name)


class _Call(NamedTuple):
    future: Future[Any]
    act: Callable[[], Any]


class Pool:
    """Replaces ``ThreadPoolExecutor``. Its threads end when there is no work; new work starts new
    threads."""

    def __init__(self, max_workers: int = 1, **_: Any) -> None:
        self._max_workers = max_workers
        #: The number of threads.
        self._running = 0
        #: Calls that no thread has begun.
        self._waiting: deque[_Call] = deque()

    def submit(self, act: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append(_Call(future, lambda: act(*args, **kwargs)))
        if self._running < self._max_workers:
            self._running += 1
            scheduler().spawn(_current_process(), self._work)
        return future

    def map(self, act: Callable[..., Any], *iterables: Iterable[Any]) -> Iterable[Any]:
        futures = [self.submit(act, *arguments) for arguments in zip(*iterables, strict=False)]
        return [result(future) for future in futures]

    def _work(self) -> None:
        """One thread: makes the waiting calls, one after another, until there are none."""
        try:
            while self._waiting:
                call = self._waiting.popleft()
                if not call.future.set_running_or_notify_cancel():
                    continue  # the call was cancelled
                try:
                    call.future.set_result(call.act())
                except Exception as error:  # noqa: BLE001 - as the real executor does
                    call.future.set_exception(error)
        finally:
            self._running -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            while self._waiting:
                self._waiting.popleft().future.cancel()
        if wait:
            scheduler().wait(lambda: not self._running)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()


_real_result = Future.result


def result(self: Future[Any], timeout: float | None = None) -> Any:
    """Replaces ``Future.result``."""
    if _current is None or _current.task is None:
        return _real_result(self, timeout)
    if not self.done():
        _current.wait(self.done, timeout)
    return _real_result(self, 0)


def wait_for_futures(
    futures: Iterable[Future[Any]], timeout: float | None = None, return_when: str = "ALL_COMPLETED"
) -> Any:
    """Replaces ``concurrent.futures.wait``."""
    all_futures = set(futures)
    enough = all if return_when == "ALL_COMPLETED" else any
    scheduler().wait(lambda: enough(future.done() for future in all_futures), timeout)
    finished = {future for future in all_futures if future.done()}
    return finished, all_futures - finished


class Random:
    """Replaces the module ``random``, seeded."""

    def __getattr__(self, name: str) -> Any:
        return getattr(scheduler().code_rng, name)


class Secrets:
    """Replaces the module ``secrets``, seeded: nothing is secret in the simulation."""

    def token_hex(self, size: int = 32) -> str:
        return scheduler().code_rng.randbytes(size).hex()

    token_urlsafe = token_hex

    def randbelow(self, limit: int) -> int:
        return scheduler().code_rng.randrange(limit)

    def choice(self, items: Any) -> Any:
        return scheduler().code_rng.choice(items)


class Uuid:
    """Replaces the module ``uuid``, seeded."""

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=scheduler().code_rng.getrandbits(128), version=4)

    def __getattr__(self, name: str) -> Any:
        return getattr(uuid, name)
