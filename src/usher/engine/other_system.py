"""The interface of the system that the engine changes; a project implements it.

``OtherSystem`` makes a ``Context`` for each pass. The engine passes it to the kinds, which know the
project's own subclass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self

from usher.engine.errors import KnownError
from usher.engine.gate import State

#: Sends a question to the database thread and waits for the answer.
Ask = Callable[[Any], Any]


class Span(Protocol):
    """Records attributes and a failure of one step, such as an OpenTelemetry span."""

    def set_attributes(self, **attributes: str | int) -> None: ...

    def fail(self, reason: str) -> None: ...


class _NoSpan:
    """The span of a context that records no spans."""

    def set_attributes(self, **attributes: str | int) -> None:
        """Does nothing."""

    def fail(self, reason: str) -> None:
        """Does nothing."""


class Context:
    """Access to the other system for the jobs of one pass. A project's subclass defines ``state``,
    and ``answers`` if its jobs ask questions; the other methods do nothing by default."""

    #: The batch capabilities that the other system offers: see ``Kind.batch_capability``.
    batch: frozenset[str]

    @property
    def state(self) -> State:
        """The state that all workers share."""
        raise NotImplementedError

    def before_work(self) -> None:
        """Called in the database thread before claimed rows are prepared."""

    def recognise(self) -> None:
        """Called in a network thread before a job acts. Raises when the job must not be sent, for
        example because another server answers at the address."""

    def prove(self) -> None:
        """Called before a refusal counts. Raises unless the right system answers at the address
        now."""

    def refresh(self) -> Self | None:
        """A context with the ``batch`` capabilities, if these were unknown when this context was
        made and are known now; otherwise None. Called about once a second."""
        return None

    def for_jobs(self, ask: Ask) -> Self:
        """The context that jobs get. They must not use the database: they call ``ask`` to send a
        question to the database thread. A question is any object that ``answers`` understands."""
        return self

    def answers(self, questions: Sequence[Any]) -> list[Any]:
        """Called in the database thread: returns the answers to the jobs' questions, in the order
        of the questions. Raises if a question can't be answered; the method is then called once for
        each question."""
        raise NotImplementedError

    def working_on(
        self, kind: str, rows: int, *, is_urgent: bool, before_sending: Callable[[], None]
    ) -> AbstractContextManager[Span]:
        """A context manager that surrounds the requests of jobs. kind: the name of the jobs' kind.
        rows: how many jobs. is_urgent: whether a person waits for at least one of them.
        before_sending: to be called before each request is sent, repeated requests included; raises
        when the request must not be sent any more."""
        return nullcontext(_NoSpan())


class OtherSystem:
    """The other system as a project registers it: one object in each process."""

    def context(self, *, accept_missing: bool = False) -> Context:
        """A context for one pass. accept_missing: whether objects that the other system does not
        show count as deleted, however many they are."""
        raise NotImplementedError

    def state(self) -> State:
        """The state that all workers share."""
        raise NotImplementedError

    def before_sweep(self) -> None:
        """Called before each sweep: makes rows due whose objects changed in the other system
        without a message, and deletes old data."""

    def advice(self, error: KnownError) -> str:
        """What to do about a failure that concerns all rows, for the log; '' for nothing."""
        return ""

    def is_down(self, error: KnownError) -> bool:
        """Whether this one failure shows that the other system does not answer at all."""
        return False
