"""The base class of kinds, which say how rows of one model are reconciled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from django.db import models

from usher.engine.errors import KnownError
from usher.engine.models import Reconciled, ReconciledQuerySet
from usher.engine.summary import Failure


@dataclass
class Job:
    """One claimed row, with everything that is needed to send it without the database."""

    row: Any
    #: The row's name for people.
    display_name: str
    #: Whatever the kind's ``prepare`` passes to its ``act``.
    data: Any = None
    #: The row's generation when it was claimed. A success writes it as the observed generation.
    generation: int = field(init=False)
    #: Whether a thread has begun the job, so that a request may reach the other system at any later
    #: time.
    is_begun: bool = field(default=False, init=False)
    #: When the row's lease ends unless it is renewed, as ``clock.elapsed``. No request may be sent
    #: after this time, because another worker may have claimed the row.
    lease_ends_at: float = field(default=math.inf, init=False)
    #: Seconds from the last change of the desired state until the other system matched; None before
    #: that.
    settled_after: float | None = field(default=None, init=False)
    #: Whether a person waits for the row.
    is_urgent: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.generation = self.row.generation


@dataclass
class Outcome:
    """The result of a job."""

    #: The kind's ``observed_fields`` → the values to write after a success.
    values: dict[str, Any] = field(default_factory=dict)
    #: Whether the other system was changed.
    changed: bool = False
    #: Why the job failed; None for a success.
    error: KnownError | None = None
    #: Whether the row only waits, for example for another row or for a confirmed e-mail address;
    #: this counts neither as a failure nor as an attempt. ``error`` then says what for.
    is_waiting: bool = False
    #: Seconds after which the row is checked again although it is in sync; None for never.
    next_in: float | None = None
    #: Whatever the kind's ``act`` passes to its ``settle``.
    extra: Any = None


class Kind:
    """The base of all kinds. ``prepare`` and ``settle`` use the database, in one thread and in
    bulk; ``act`` and ``act_many`` use the network, in many threads, and never the database.

    Several methods get ``context``: what the registered ``OtherSystem`` returns for one pass, an
    ``other_system.Context`` with the project's own attributes, such as a client.
    """

    name: ClassVar[str]
    model: ClassVar[type[Reconciled]]
    #: The row's own columns that a success writes.
    observed_fields: ClassVar[tuple[str, ...]] = ()
    #: The capability that must be in ``Context.batch`` for rows of this kind to be sent in batches;
    #: '' for never.
    batch_capability: ClassVar[str] = ""
    #: The most rows in one request.
    batch_size: ClassVar[int] = 200
    #: Whether rows are always sent in batches, even if the other system lacks the capability.
    always_in_batches: ClassVar[bool] = False
    #: The column with the user's id; '' for rows that do not belong to a user.
    user_field: ClassVar[str] = "user_id"
    #: Related objects that are loaded with claimed rows, as for ``select_related``.
    related: ClassVar[tuple[str, ...]] = ()
    #: Values that are read with claimed rows, as for ``annotate``.
    annotations: ClassVar[Mapping[str, Any]] = {}

    def rows(self) -> ReconciledQuerySet:
        """All rows of this kind."""
        rows: ReconciledQuerySet = self.model._default_manager.all()
        return rows

    def lost(self) -> ReconciledQuerySet:
        """Rows that are not in sync and have no work, although each such row should have work."""
        return self.rows().unsettled().without_work()

    def column_of(self, other: type[models.Model]) -> str:
        """The column of this kind's rows that refers to ``other``: ``pk`` if they are themselves
        rows of ``other``; '' when there is none."""
        if self.model is other:
            return "pk"
        for column in self.model._meta.concrete_fields:
            if column.related_model is other:
                return column.attname
        return ""

    def display_name(self, row: Any, name: str = "") -> str:
        """The row's name for people. name: its user's name, if the caller knows it."""
        return name or f"{self.name} {row.pk}"

    def display_names(self, rows: Sequence[Any]) -> list[str]:
        """The names of several rows for people, in their order."""
        return [self.display_name(row) for row in rows]

    def prepare(self, rows: Sequence[Any], context: Any) -> list[tuple[Job, Outcome | None]]:
        """A job for each row; and its outcome if nothing needs to be sent, else None."""
        raise NotImplementedError

    def act(self, job: Job, context: Any) -> Outcome:
        """Changes the other system until it matches the row. If ``act`` raises a ``KnownError``,
        the error becomes the outcome."""
        raise NotImplementedError

    def act_many(self, jobs: Sequence[Job], context: Any) -> list[Outcome]:
        """Does what ``act`` does, for several rows in one request. Returns an outcome for each job,
        in their order. Raises a ``KnownError`` when the request as a whole failed."""
        raise NotImplementedError

    def settle_earlier_kinds(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Writes to rows of kinds that come before this one in the order of the registry. Called
        before rows of this kind are locked and before leases are checked."""

    def settle(self, results: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """Writes to tables of the kind's own and to rows of kinds that come later in the order of
        the registry. Called in the transaction that writes the outcomes, after they are written and
        with only the results whose lease is valid. now: the database's time."""

    def settle_deleted(self, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Called in the transaction that writes the outcomes, with the jobs whose rows were deleted
        since they were claimed."""

    def before_recheck(self, user: Any = None, related_to: Any = None) -> Failure | None:
        """Called before rows are rechecked: creates rows that should exist and do not. user,
        related_to: only rows of this user (or user's id), or rows that refer to this object; all
        rows when both are None. Returns a failure if the other system could not be asked for all of
        these rows."""
        return None
