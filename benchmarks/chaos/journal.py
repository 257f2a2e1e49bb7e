"""The desired state that the operations lead to. It is kept outside the application's database, so
that the database can be compared with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class EnrollmentState(NamedTuple):
    mode: str
    is_active: bool


@dataclass
class Journal:
    """What the operations so far must have led to in the end.

    learners: username → e-mail. enrollments: by username and course key. titles: course key →
    title in the LMS; '' until the run is renamed. refused: kind and name of the rows that must be
    refused in the end. repeated: how often an operation was repeated after a database error.
    max_attempts: the most attempts of any row so far."""

    operations: int = 0
    repeated: int = 0
    learners: dict[str, str] = field(default_factory=dict)
    enrollments: dict[tuple[str, str], EnrollmentState] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    max_attempts: int = 0
