"""Notifies observers of the engine's work: metrics, the log of refusals, the console.

An observer is called in the process and thread that did the work, after the transaction unless the
method says otherwise. If an observer raises, the error is logged and the engine continues.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("usher.engine")


class Observer:
    """The base class of observers: override any of its methods. Methods may use the database unless
    they say otherwise, and must not use the network."""

    def writing(self, kind: Any, results: Sequence[tuple[Any, Any]]) -> None:
        """Jobs and outcomes of one ``Kind`` are being written. Called within the transaction, which
        may still be rolled back; must not run statements."""

    def written(self, kind: str, results: Sequence[tuple[Any, Any]]) -> None:
        """Jobs and outcomes of one kind were written."""

    def requesting(self, kind: str, rows: int) -> None:
        """One request about this many rows is about to be sent. Called in a network thread: must
        not use the database."""

    def passing(self) -> None:
        """A pass has written outcomes and continues."""

    def swept(self) -> None:
        """A sweep has ended."""

    def beat(self) -> None:
        """A worker is alive: every few seconds, or with each sweep where Celery runs the engine."""

    def ended(self, *, is_empty: bool) -> None:
        """A pass has ended. is_empty: no row was due."""

    def stopped(self) -> None:
        """A worker has stopped because somebody told it to, so a missing worker is no fault."""


_observers: list[Observer] = []


def add(observer: Observer) -> None:
    """Calls this observer from now on, in this process."""
    if observer not in _observers:
        _observers.append(observer)


# The following functions call the method of the same name of every observer.


def written(kind: str, results: Sequence[tuple[Any, Any]]) -> None:
    if results:
        _notify(lambda observer: observer.written(kind, results))


def writing(kind: Any, results: Sequence[tuple[Any, Any]]) -> None:
    if results:
        _notify(lambda observer: observer.writing(kind, results))


def requesting(kind: str, rows: int) -> None:
    _notify(lambda observer: observer.requesting(kind, rows))


def passing() -> None:
    _notify(lambda observer: observer.passing())


def swept() -> None:
    _notify(lambda observer: observer.swept())


def beat() -> None:
    _notify(lambda observer: observer.beat())


def ended(*, is_empty: bool) -> None:
    _notify(lambda observer: observer.ended(is_empty=is_empty))


def stopped() -> None:
    _notify(lambda observer: observer.stopped())


def _notify(call: Callable[[Observer], None]) -> None:
    for observer in _observers:
        try:
            call(observer)
        except Exception:  # a fault in metrics must not stop the engine
            log.exception("an observer of the engine failed")
