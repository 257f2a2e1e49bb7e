"""What a kind of row must offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from django.db import models

from usher.engine.errors import KnownError
from usher.engine.models import Reconciled, ReconciledQuerySet


@dataclass
class Job:
    """One claimed row, with everything needed to act without the database.

    generation: the one that will have been observed when it succeeds. data: of the kind. begun: a
    thread acts on it, so something of it may reach the other system at any later moment.
    is_urgent: a person waits for it. settled_after: seconds from the last change of the desired
    state until the other system matched; None before that.
    """

    row: Any
    what: str
    data: Any = None
    generation: int = field(init=False)
    begun: bool = field(default=False, init=False)
    settled_after: float | None = field(default=None, init=False)
    is_urgent: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.generation = self.row.generation


@dataclass
class Outcome:
    """The result of a job.

    values: the kind's ``observed_fields`` → values to write, when there is no error.
    next_in: seconds after which the row is due again though it is in sync; None: not by itself.
    waits: not tried, because another row comes first; ``error`` says which. extra: of the kind.
    """

    values: dict[str, Any] = field(default_factory=dict)
    changed: bool = False
    error: KnownError | None = None
    waits: bool = False
    next_in: float | None = None
    extra: Any = None


class Kind:
    """The base of all kinds. ``prepare`` and ``settle`` use the database, in one thread and in
    bulk; ``act`` and ``act_many`` use the network, in many threads, and never the database.

    ``context`` is the project's own ``other_system.Context``.
    """

    name: ClassVar[str]
    model: ClassVar[type[Reconciled]]
    #: Columns of the row itself that a success writes.
    observed_fields: ClassVar[tuple[str, ...]] = ()
    #: What ``Context.batch`` has where rows of this kind go in batches, '' for never.
    batch_capability: ClassVar[str] = ""
    #: Rows in a request of a batch; also for kinds of ``always_many``.
    batch_size: ClassVar[int] = 200
    #: Whether several rows go in a request, whatever ``Context.batch`` has.
    always_many: ClassVar[bool] = False
    #: The column that holds the user's id, '' for rows that belong to nobody.
    user_field: ClassVar[str] = "user_id"
    related: ClassVar[tuple[str, ...]] = ()

    def rows(self) -> ReconciledQuerySet:
        """All rows of this kind."""
        found: ReconciledQuerySet = self.model._default_manager.all()
        return found

    def lost(self) -> ReconciledQuerySet:
        """Rows that are not as wanted, and that nothing is to be done about, though it should."""
        return self.rows().unsettled().without_work()

    def column_of(self, other: type[models.Model]) -> str:
        """The column of this kind's rows that refers to ``other``; '' when there is none."""
        if self.model is other:
            return "pk"
        for each in self.model._meta.concrete_fields:
            if each.related_model is other:
                return each.attname
        return ""

    def what(self, row: Any, name: str = "") -> str:
        """The row, for people. name: of its user, where it is known."""
        return name or f"{self.name} {row.pk}"

    def prepare(self, rows: Sequence[Any], context: Any) -> list[tuple[Job, Outcome | None]]:
        """A job for each row; with an outcome where there is nothing to send."""
        raise NotImplementedError

    def act(self, job: Job, context: Any) -> Outcome:
        """Changes the other system until it matches the row. A ``KnownError`` that it raises
        becomes the outcome."""
        raise NotImplementedError

    def act_many(self, jobs: Sequence[Job], context: Any) -> list[Outcome]:
        """Several rows in one request. Raises a ``KnownError`` when the request itself failed."""
        raise NotImplementedError

    def settle_before(self, done: Sequence[tuple[Job, Outcome]]) -> None:
        """What to write to rows of kinds that come before this one in their order: called before
        rows of this kind are locked, and before leases are checked."""

    def settle(self, done: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """What else to write, in the transaction that writes the outcomes, leases checked: to
        tables of its own and to kinds that come later in their order."""

    def settle_deleted(self, done: Sequence[tuple[Job, Outcome]]) -> None:
        """What to do about rows that were deleted while they were worked on; same transaction."""

    def recheck_rows(self, user: Any = None, about: Any = None) -> None:
        """Makes rows that should exist and don't, before everything, or all of one user or about
        one object, is checked again."""
