"""Who is told what the engine did: metrics, the log of refusals, other apps as the console.

An observer is called in the process and thread that did the work, after the transaction that wrote
it. One that raises harms nothing and is logged. Without observers a call costs a look at a list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("usher.engine")


class Observer:
    """The base: override what is of interest. It may use the database and must not call the LMS."""

    def written(self, kind: str, done: Sequence[tuple[Any, Any]]) -> None:
        """Jobs and outcomes of one kind were written."""

    def beat(self) -> None:
        """A worker shows that it is alive: every few seconds, or with each sweep of Celery's."""

    def ended(self) -> None:
        """A run of the engine is over."""

    def stopped(self) -> None:
        """A worker ends as it was told to, and is not to be missed."""


_observers: list[Observer] = []


def add(observer: Observer) -> None:
    """Calls this observer from now on, in this process."""
    if observer not in _observers:
        _observers.append(observer)


def written(kind: str, done: Sequence[tuple[Any, Any]]) -> None:
    if done:
        _each(lambda one: one.written(kind, done))


def beat() -> None:
    _each(lambda one: one.beat())


def ended() -> None:
    _each(lambda one: one.ended())


def stopped() -> None:
    _each(lambda one: one.stopped())


def _each(call: Callable[[Observer], None]) -> None:
    for observer in _observers:
        try:
            call(observer)
        except Exception:  # the engine's work goes on, whatever becomes of its history
            log.exception("an observer of the engine failed")
