"""What a run of the engine did: the last line of every command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: Failures kept with their words; the rest is only counted, so that memory stays flat.
KEPT_FAILURES = 1000


@dataclass(frozen=True)
class Failure:
    """kind: ``account`` …; what: the learner or run, for people; ``code`` is the LMS's."""

    kind: str
    what: str
    failure_class: str
    code: str
    message: str


@dataclass
class Summary:
    """changed: brought to what is wanted; unchanged: it was so already; failed: still not so."""

    changed: int = 0
    unchanged: int = 0
    failures: list[Failure] = field(default_factory=list)
    failed: int = 0

    def fail(self, failure: Failure) -> None:
        self.failed += 1
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append(failure)

    def add(self, other: Summary) -> Summary:
        self.changed += other.changed
        self.unchanged += other.unchanged
        self.failed += other.failed
        self.failures.extend(other.failures[: KEPT_FAILURES - len(self.failures)])
        return self

    def line(self) -> str:
        return f"{self.changed} changed, {self.unchanged} unchanged, {self.failed} failed"

    def as_dict(self) -> dict[str, Any]:
        return {
            "changed": self.changed,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "failures": [vars(failure) for failure in self.failures],
        }
