"""The base class of checks, their findings, and their registry."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, ClassVar

from usher.contract.terminal import printable

if TYPE_CHECKING:
    from usher.doctor.context import Context

#: The group of entry points by which other distributions add checks.
ENTRY_POINTS = "usher.doctor.checks"
#: Families of checks, causes before symptoms.
FAMILIES = (
    "env",
    "net",
    "clk",
    "tut",
    "lms",
    "prv",
    "app",
    "svc",
    "oau",
    "out",
    "ops",
    "acc",
    "crs",
    "enr",
)


class Status(StrEnum):
    """NOTE: information that needs no action. SKIPPED: not known, or not applicable."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


#: ``Finding.silent_server`` of an LMS that does not answer.
SILENT_LMS = "the LMS"


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    seen: what the check observed, in words. cause: the reason for a note or a failure. fix: a
    command to copy, or the line to change, with the placeholders of ``fixes``; '' if nothing is
    wrong. repair: the name, in ``repairs``, of the repair that ``--fix`` makes, or ''. applies:
    False for a skipped check of something that this deployment doesn't have. silent_server: the
    server that does not answer at all, such as ``the LMS``, or ''.
    """

    status: Status
    seen: str
    cause: str = ""
    fix: str = ""
    repair: str = ""
    applies: bool = True
    silent_server: str = ""

    def __post_init__(self) -> None:
        """Removes control characters: the texts may quote an application, an LMS or a learner."""
        for name in ("seen", "cause", "fix"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    @property
    def is_trouble(self) -> bool:
        return self.status in (Status.FAILED, Status.WARNING)


def ok(seen: str) -> Finding:
    return Finding(Status.OK, seen)


def note(seen: str, *, cause: str) -> Finding:
    """cause: why it is so, and why nothing needs to be done."""
    return Finding(Status.NOTE, seen, cause=cause)


def failed(
    seen: str, *, cause: str, fix: str, repair: str = "", silent_server: str = ""
) -> Finding:
    return Finding(
        Status.FAILED, seen, cause=cause, fix=fix, repair=repair, silent_server=silent_server
    )


def warning(seen: str, *, cause: str, fix: str, repair: str = "") -> Finding:
    return Finding(Status.WARNING, seen, cause=cause, fix=fix, repair=repair)


def skipped(reason: str) -> Finding:
    """Returns a finding for something that could not be checked."""
    return Finding(Status.SKIPPED, reason)


def not_applicable(reason: str) -> Finding:
    """Returns a finding for a check of something that this deployment doesn't have."""
    return Finding(Status.SKIPPED, reason, applies=False)


def quantity(count: int, singular: str, plural: str = "") -> str:
    """Returns ``1 learner``, ``2 learners``. plural: '' if the plural is ``singular`` with an s."""
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


class Check(ABC):
    """One check. The docstring is the check's documentation: a title, then symptom, cause and fix.

    id: such as ``NET-1``. depends_on: ids of checks whose failure would cause this one to fail.
    essential: whether the connection counts as proven only if this check succeeded. ``probe`` may
    raise NotKnownError if a fact can't be found out: the check is then skipped.
    """

    id: ClassVar[str]
    essential: ClassVar[bool] = False
    depends_on: ClassVar[tuple[str, ...]] = ()
    docs_url: ClassVar[str] = ""

    @abstractmethod
    def probe(self, context: "Context") -> Finding: ...

    @classmethod
    def title(cls) -> str:
        return (cls.__doc__ or cls.id).strip().splitlines()[0].rstrip(".")

    @classmethod
    def page(cls) -> str:
        """The address of the check's documentation: a path in this repository, or the ``docs_url``
        of a check from another distribution."""
        if cls.docs_url or not cls.__module__.startswith("usher.doctor."):
            return cls.docs_url
        return f"docs/doctor/{cls.id.split('-')[0].lower()}.md#{cls.id.lower()}"


#: Id → class, of all checks whose modules were imported.
_REGISTERED: dict[str, type[Check]] = {}


def check(check_class: type[Check]) -> type[Check]:
    """Registers a check. Raises ValueError if another class has the same id."""
    registered = _REGISTERED.setdefault(check_class.id, check_class)
    if registered.__qualname__ != check_class.__qualname__:
        raise ValueError(f"{check_class.id} is already the id of {registered.__qualname__}")
    return check_class


def all_checks() -> dict[str, type[Check]]:
    """Returns id → check class: Usher's own checks in the order of the families, then the checks of
    other distributions.

    Another distribution names a module, or a check, under the entry point group
    ``usher.doctor.checks``.
    """
    for family in FAMILIES:
        import_module(f"usher.doctor.checks.{family}")
    for point in entry_points(group=ENTRY_POINTS):
        loaded = point.load()
        if isinstance(loaded, type) and issubclass(loaded, Check):
            check(loaded)
    ranks = {family: rank for rank, family in enumerate(FAMILIES)}
    ids = sorted(_REGISTERED, key=lambda check_id: _sort_key(check_id, ranks))
    return {check_id: _REGISTERED[check_id] for check_id in ids}


def title_of_family(family: str) -> str:
    """The subject of the family to which a check such as ``NET-1`` belongs; '' for a check of
    another distribution."""
    if family.lower() not in FAMILIES:
        return ""
    module = import_module(f"usher.doctor.checks.{family.lower()}")
    return (module.__doc__ or "").splitlines()[0].rstrip(".").replace("``", "")


def _sort_key(check_id: str, ranks: dict[str, int]) -> tuple[int, str, int]:
    """The key by which checks are sorted: family, then number. ranks: the position of each family;
    families of other distributions come last."""
    family, _, number = check_id.partition("-")
    rank = ranks.get(family.lower(), len(ranks))
    return rank, family, int(number) if number.isdigit() else 0
