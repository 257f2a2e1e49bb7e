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
#: Modules that call ``datetime.now``: the class is replaced in these modules only.
_MODULES_WITH_DATETIME = ("usher.client.client", "benchmarks.lms.world")


@contextmanager
def substitutes(further: Mapping[Any, Any]) -> Iterator[None]:
    """Replace time and threads within the block. further: further replacements, object → its
    substitute."""
    from django.utils import timezone

    from usher.engine import clock

    replacements = _Replacements()
    substitutes_by_id: dict[int, Any] = {
        id(original): substitute
        for original, substitute in (
            (time, threads.Time()),
            (threading, threads.Threading()),
            (queue, threads.Queues()),
            (random, threads.Random()),
            (secrets, threads.Secrets()),
            (uuid, threads.Uuid()),
            (ThreadPoolExecutor, threads.Pool),
            (wait, threads.wait_for_futures),
            *further.items(),
        )
    }
    for module in _modules():
        for name, value in list(vars(module).items()):
            if id(value) in substitutes_by_id:
                replacements.replace(module, name, substitutes_by_id[id(value)])
            elif value is datetime and module.__name__ in _MODULES_WITH_DATETIME:
                replacements.replace(module, name, threads.Datetime)
    replacements.replace(Future, "result", threads.result)
    replacements.replace(timezone, "now", threads.process_time)
    replacements.replace(clock, "timezone", _DatabaseClock)
    try:
        yield
    finally:
        replacements.undo()


class _DatabaseClock:
    """Replaces ``timezone`` in ``usher.engine.clock``: the clock of the database's machine."""

    now = staticmethod(threads.database_time)


def _modules() -> list[Any]:
    """All imported modules of ``_PACKAGES``."""
    return [
        module
        for name, module in list(sys.modules.items())
        if any(name == package or name.startswith(f"{package}.") for package in _PACKAGES)
    ]


class _Replacements:
    """Replaces attributes, and restores them."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Sets an attribute, whose original value ``undo`` restores."""
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def undo(self) -> None:
        for owner, name, value in reversed(self._originals):
            setattr(owner, name, value)
