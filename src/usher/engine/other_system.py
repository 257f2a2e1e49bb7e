"""The system that the engine changes, as a project gives it to the engine.

``OtherSystem`` makes a ``Context`` for each run; kinds get it and know what more is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self

from usher.engine.gate import State

#: Asks the thread that has the database, and waits for its answer.
Ask = Callable[[Any], Any]


class Span(Protocol):
    """What a step tells of itself, such as an OpenTelemetry span."""

    def tell(self, **attributes: str | int) -> None: ...

    def fail(self, reason: str) -> None: ...


class _Silent:
    def tell(self, **attributes: str | int) -> None:
        """Nobody listens."""

    def fail(self, reason: str) -> None:
        """Nobody listens."""


class Context:
    """The other system as jobs reach it, for one run. The base does nothing."""

    #: Kinds go in batches where the other system offers their ``batch_capability``.
    batch: frozenset[str]

    @property
    def state(self) -> State:
        """What all workers share."""
        raise NotImplementedError

    def before_work(self) -> None:
        """In the database thread, before rows that were claimed are prepared."""

    def recognise(self) -> None:
        """In a network thread, before a job acts. Raises when it must not."""

    def prove(self) -> None:
        """Before a refusal is believed. Raises unless it comes from the right system."""

    def learned(self) -> Self | None:
        """A context that knows the other system's ``batch``, where this one could not be told;
        None when there is nothing new. Called now and then."""
        return None

    def asking(self, ask: Ask) -> Self:
        """The same for jobs, whose questions to the database go through ``ask``."""
        return self

    def answers(self, questions: Sequence[Any]) -> list[Any]:
        """In the database thread: to what jobs ask by ``ask``. Raises when one can't be
        answered; then each is asked alone."""
        raise NotImplementedError

    def working_on(self, kind: str, rows: int, *, is_urgent: bool) -> AbstractContextManager[Span]:
        """Is around a job's requests. is_urgent: a person waits for one of these rows."""
        return nullcontext(_Silent())


class OtherSystem:
    """One for each process."""

    def context(self, *, accept_missing: bool = False) -> Context:
        """For a run. accept_missing: what the other system does not show is believed to be lost,
        however much it is."""
        raise NotImplementedError

    def state(self) -> State:
        """What all workers share."""
        raise NotImplementedError

    def before_sweep(self) -> None:
        """Makes due what changed there without a message, and forgets what is old."""
