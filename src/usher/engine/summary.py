"""The result of a pass; its ``line`` is the last line of every command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from usher.engine.errors import KnownError

#: The most failures that are kept with their messages; further failures are only counted.
MAX_KEPT_FAILURES = 1000


@dataclass(frozen=True)
class Failure:
    """A row that failed. kind: the name of the row's kind, such as ``account``. what: the row's
    name for people. failure_class, code, message: as in ``errors.KnownError``."""

    kind: str
    what: str
    failure_class: str
    code: str
    message: str

    @classmethod
    def from_error(cls, kind: str, what: str, error: KnownError) -> Failure:
        """The failure of the row with this kind and name."""
        return cls(kind, what, str(error.failure_class), error.code, error.message)


@dataclass(frozen=True)
class Group:
    """Rows of one kind with the same error code. due_in: seconds until the first of them is tried
    again; None for refused rows. failure_class: as in ``errors.KnownError``."""

    kind: str
    count: int
    code: str
    message: str
    due_in: float | None
    failure_class: str = ""


@dataclass
class Summary:
    """The counts of a pass, and what failed in it."""

    #: How many rows the pass changed in the other system.
    changed: int = 0
    #: How many rows matched the other system already.
    unchanged: int = 0
    #: Unread lists, and the first of the rows that ``failed`` counts.
    failures: list[Failure] = field(default_factory=list)
    #: How many rows failed and have not succeeded since.
    failed: int = 0
    #: How many lists of the other system could not be read to their end. Their failures are in
    #: ``failures``, and not counted in ``failed``, since a list is not a row.
    unread_lists: int = 0
    #: How many of the rows that the caller made due another worker has processed.
    by_others: int = 0
    #: Rows that are tried again without anybody's help. They wait for another row, for something in
    #: the application such as a confirmed e-mail address, or for the end of the other system's rate
    #: limit. ``services.add_earlier`` adds rows that failed in earlier passes and are not due yet.
    waiting: list[Group] = field(default_factory=list)
    #: Rows that were refused in earlier passes, if ``services.add_earlier`` was called.
    refused: list[Group] = field(default_factory=list)

    def fail(self, failure: Failure) -> None:
        """Counts a failure, and keeps it unless enough are kept already."""
        self.failed += 1
        if len(self.failures) < MAX_KEPT_FAILURES:
            self.failures.append(failure)

    def fail_list(self, failure: Failure) -> None:
        """Counts and keeps the failure of a list that could not be read."""
        self.unread_lists += 1
        self.failures.insert(0, failure)

    def add(self, other: Summary) -> Summary:
        """Adds the counts, failures and waiting rows of another pass, but not its ``refused``.
        Returns this summary."""
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.failed += other.failed
        self.by_others += other.by_others
        self.failures.extend(other.failures[: MAX_KEPT_FAILURES - len(self.failures)])
        self.unread_lists += other.unread_lists
        self.waiting.extend(other.waiting)
        return self

    @property
    def waiting_count(self) -> int:
        """How many rows wait."""
        return sum(group.count for group in self.waiting)

    def line(self) -> str:
        """The counts for people, such as ``3 changed, 0 unchanged, 1 failed``."""
        counts = [
            f"{self.changed} changed",
            f"{self.unchanged} unchanged",
            f"{self.failed} failed",
        ]
        if self.unread_lists:
            noun = "list" if self.unread_lists == 1 else "lists"
            counts.append(f"{self.unread_lists} {noun} not read")
        for count, label in (
            (self.by_others, "done by another worker"),
            (self.waiting_count, "waiting"),
            (sum(group.count for group in self.refused), "refused before"),
        ):
            if count:
                counts.append(f"{count} {label}")
        return ", ".join(counts)

    def counts(self) -> dict[str, int]:
        """The numbers of rows that the pass processed."""
        return {"changed": self.changed, "unchanged": self.unchanged, "failed": self.failed}

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return {
            **self.counts(),
            "by_others": self.by_others,
            "waiting": [vars(group) for group in self.waiting],
            "refused": [vars(group) for group in self.refused],
            "failures": [vars(failure) for failure in self.failures],
        }
