"""What a run of the engine did: the last line of every command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Failures kept with their words; the rest is only counted, so that memory stays flat.
KEPT_FAILURES = 1000


@dataclass(frozen=True)
class Failure:
    """kind: ``account`` …; what: the object, for people; ``code`` says why."""

    kind: str
    what: str
    failure_class: str
    code: str
    message: str


@dataclass(frozen=True)
class Group:
    """Rows of one kind with one reason. due_in: seconds until the first of them is tried again;
    None: when somebody asks for it, or its reason is gone."""

    kind: str
    count: int
    code: str
    message: str
    due_in: float | None


@dataclass
class Summary:
    """changed: by this run; unchanged: it was as wanted already; failed: still not so.

    by_others: rows that this run was asked for and that another worker has settled meanwhile.
    waiting: rows that failed in earlier runs and are not due yet; refused: those that were
    refused in earlier runs. Only commands ask for these two.
    """

    changed: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0
    by_others: int = 0
    waiting: list[Group] = field(default_factory=list)
    refused: list[Group] = field(default_factory=list)

    def fail(self, failure: Failure) -> None:
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)

    def add(self, other: Summary) -> Summary:
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.failed += other.failed
        self.by_others += other.by_others
        self.failures.extend(other.failures[: KEPT_FAILURES - len(self.failures)])
        return self

    def line(self) -> str:
        counts = [
            f"{self.changed} changed",
            f"{self.unchanged} unchanged",
            f"{self.failed} failed",
        ]
        for count, what in (
            (self.by_others, "done by another worker"),
            (sum(group.count for group in self.waiting), "waiting"),
            (sum(group.count for group in self.refused), "refused before"),
        ):
            if count:
                counts.append(f"{count} {what}")
        return ", ".join(counts)

    def as_dict(self) -> dict[str, Any]:
        return {
            "changed": self.changed,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "by_others": self.by_others,
            "waiting": [vars(group) for group in self.waiting],
            "refused": [vars(group) for group in self.refused],
            "failures": [vars(failure) for failure in self.failures],
        }
