"""What a kind of row must offer, and the list of kinds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from usher.application.engine.evidence import Evidence
from usher.application.engine.models import Reconciled, ReconciledQuerySet
from usher.application.engine.recognition import recognition
from usher.client.client import LmsClient
from usher.client.errors import LmsError
from usher.client.walk import GrantWanted

#: In the order in which they are worked on: first those that later kinds depend on.
NAMES = (
    "account",
    "token",
    "run",
    "mode",
    "enrollment",
    "profile",
    "grade",
    "certificate",
    "retirement",
)


@dataclass
class Job:
    """One claimed row, with everything needed to act without the database.

    generation: the one that will have been observed when it succeeds. data: of the kind. begun: a
    thread acts on it, so something of it may reach the LMS at any later moment. is_urgent: a person
    waits for it. settled_after: seconds from the last change of the desired state until the LMS
    matched; None before that.
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
    error: LmsError | None = None
    waits: bool = False
    next_in: float | None = None
    extra: Any = None


@dataclass(frozen=True)
class LmsContext:
    """The LMS as a job reaches it. grant: asks the database thread for an OAuth code."""

    lms: LmsClient
    grant: Callable[[GrantWanted], str]
    batch: frozenset[str]
    redirect_uri: str
    evidence: Evidence = field(default_factory=Evidence)
    #: Whether ``batch`` is what the LMS said, and not what is assumed until it can be asked.
    batch_is_known: bool = True
    #: Called in the database thread before rows that were claimed are prepared.
    before_work: Callable[[], None] = lambda: None

    def recognise(self) -> None:
        """Before anything is done in the LMS: raises TooManyMissing when it is another one."""
        if not self.evidence.accepts:
            recognition(self.lms).check(self.lms)

    def prove(self) -> None:
        """Before a refusal is believed: raises LmsError unless the known LMS answers now."""
        if self.evidence.accepts:
            self.lms.confirm()
        else:
            recognition(self.lms).prove(self.lms)


class Kind:
    """The base of all kinds. ``prepare`` and ``settle`` use the database, in one thread and in
    bulk; ``act`` and ``act_many`` use the network, in many threads, and never the database."""

    name: ClassVar[str]
    model: ClassVar[type[Reconciled]]
    #: Columns of the row itself that a success writes.
    observed_fields: ClassVar[tuple[str, ...]] = ()
    #: The capability of ``usher.lms`` that this kind can use, '' for none.
    batch_capability: ClassVar[str] = ""
    #: Rows in a request of the batch API; also for kinds whose public API takes several.
    batch_size: ClassVar[int] = 200
    #: Whether the public API itself takes several rows a request.
    always_many: ClassVar[bool] = False
    user_field: ClassVar[str] = "user_id"
    run_field: ClassVar[str] = ""
    related: ClassVar[tuple[str, ...]] = ()

    def rows(self) -> ReconciledQuerySet:
        """All rows of this kind."""
        found: ReconciledQuerySet = self.model._default_manager.all()
        return found

    def what(self, row: Any, learner: str = "") -> str:
        """The learner, the run or both, for people. learner: their name, where it is known."""
        who = learner or getattr(row, "username", "")
        if not who and self.user_field:
            who = f"learner {row.user_id}"
        run = row.run.course_key if self.run_field == "run_id" else ""
        return " in ".join(filter(None, (who, run)))

    def prepare(self, rows: Sequence[Any], context: LmsContext) -> list[tuple[Job, Outcome | None]]:
        """A job for each row; with an outcome where there is nothing to send."""
        raise NotImplementedError

    def act(self, job: Job, context: LmsContext) -> Outcome:
        """Changes the LMS until it matches the row. Raises LmsError, which becomes the outcome."""
        raise NotImplementedError

    def act_many(self, jobs: Sequence[Job], context: LmsContext) -> list[Outcome]:
        """Several rows in one request. Raises LmsError when the request itself failed."""
        raise NotImplementedError

    def settle_before(self, done: Sequence[tuple[Job, Outcome]]) -> None:
        """What to write to rows of kinds that come before this one in ``NAMES``: called before
        rows of this kind are locked, and before leases are checked."""

    def settle(self, done: Sequence[tuple[Job, Outcome]], now: datetime) -> None:
        """What else to write, in the transaction that writes the outcomes, leases checked: to
        tables of its own and to kinds that come later in ``NAMES``."""

    def settle_deleted(self, done: Sequence[tuple[Job, Outcome]]) -> None:
        """What to do about rows that were deleted while they were worked on; same transaction."""

    def recheck_rows(self, user: Any = None, run: Any = None) -> None:
        """Makes rows that should exist and don't, before everything, or all of one learner or
        run, is checked again."""


def kind(name: str) -> Kind:
    """Raises KeyError for a name that isn't in ``NAMES``."""
    return all_kinds()[name]


def all_kinds() -> dict[str, Kind]:
    """Name → kind, in the order of ``NAMES``."""
    from usher.application.accounts.kinds import AccountKind, ProfileKind, RetirementKind
    from usher.application.enrollments.kinds import EnrollmentKind
    from usher.application.records.kinds import CertificateKind, GradeKind
    from usher.application.runs.kinds import ModeKind, RunKind
    from usher.application.tokens.kinds import TokenKind

    found: dict[str, Kind] = {}
    for each in (
        AccountKind,
        TokenKind,
        RunKind,
        ModeKind,
        EnrollmentKind,
        ProfileKind,
        GradeKind,
        CertificateKind,
        RetirementKind,
    ):
        found[each.name] = each()
    return found
