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
    """The base: override what is of interest. It may use the database, and asks nobody else."""

    def writing(self, kind: Any, done: Sequence[tuple[Any, Any]]) -> None:
        """Jobs and outcomes of one ``Kind`` are being written: within that transaction, which may
        still be undone. Without statements of its own."""

    def written(self, kind: str, done: Sequence[tuple[Any, Any]]) -> None:
        """Jobs and outcomes of one kind were written."""

    def requesting(self, kind: str, rows: int) -> None:
        """One request about several rows is sent. In a network thread: without the database."""

    def passing(self) -> None:
        """A run has written something and goes on."""

    def swept(self) -> None:
        """A sweep has ended."""

    def beat(self) -> None:
        """A worker shows that it is alive: every few seconds, or with each sweep of Celery's."""

    def ended(self, *, is_empty: bool) -> None:
        """A run of the engine is over. is_empty: it found nothing to do."""

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


def writing(kind: Any, done: Sequence[tuple[Any, Any]]) -> None:
    if done:
        _each(lambda one: one.writing(kind, done))


def requesting(kind: str, rows: int) -> None:
    _each(lambda one: one.requesting(kind, rows))


def passing() -> None:
    _each(lambda one: one.passing())


def swept() -> None:
    _each(lambda one: one.swept())


def beat() -> None:
    _each(lambda one: one.beat())


def ended(*, is_empty: bool) -> None:
    _each(lambda one: one.ended(is_empty=is_empty))


def stopped() -> None:
    _each(lambda one: one.stopped())


def _each(call: Callable[[Observer], None]) -> None:
    for observer in _observers:
        try:
            call(observer)
        except Exception:  # the engine's work goes on, whatever becomes of its history
            log.exception("an observer of the engine failed")
