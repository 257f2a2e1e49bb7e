"""Replaces real time and threads by virtual ones, in the modules of Usher and the benchmark LMS.

It replaces the names that these modules have imported, so that their code runs unchanged.
``Future.result`` and Django's ``timezone.now`` are replaced for all modules.
"""

from __future__ import annotations

import queue
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from simulation import threads

_PACKAGES = ("usher.application", "usher.engine", "usher.client", "benchmarks.lms")
#: Modules that call ``datetime.now``.
_TELL_TIME = ("usher.client.client", "benchmarks.lms.world")


@contextmanager
def substitutes(more: Mapping[Any, Any]) -> Iterator[None]:
    """Replace time and threads within the block. more: further replacements, {object: its
    replacement}."""
    from django.utils import timezone

    from usher.engine import clock

    exchanges = _Exchanges()
    places: dict[int, Any] = {
        id(real): stand_in
        for real, stand_in in (
            (time, threads.Time()),
            (threading, threads.Threading()),
            (queue, threads.Queues()),
            (random, threads.Random()),
            (secrets, threads.Secrets()),
            (uuid, threads.Uuid()),
            (ThreadPoolExecutor, threads.Pool),
            (wait, threads.wait_for_futures),
            *more.items(),
        )
    }
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) in places:
                exchanges.replace(module, name, places[id(value)])
            elif value is datetime and module.__name__ in _TELL_TIME:
                exchanges.replace(module, name, threads.Moment)
    exchanges.replace(Future, "result", threads.result)
    exchanges.replace(timezone, "now", threads.process_time)
    exchanges.replace(clock, "timezone", _DatabaseClock)
    try:
        yield
    finally:
        exchanges.undo()


class _DatabaseClock:
    """Replaces ``timezone`` in ``usher.engine.clock``: the clock of the database's machine."""

    now = staticmethod(threads.database_time)


def _modules() -> list[Any]:
    return [
        module
        for name, module in list(sys.modules.items())
        if any(name == package or name.startswith(f"{package}.") for package in _PACKAGES)
    ]


class _Exchanges:
    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute until ``undo``."""
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)
