"""The base class of this application's kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from usher.application.accounts.services import usernames
from usher.engine.kinds import Kind


class LmsKind(Kind):
    """A kind whose other system is the LMS: ``context`` is an ``LmsContext``, and
    ``batch_capability`` one of ``usher.lms``."""

    #: The column with the course run's id; '' for rows that do not belong to a run.
    run_field: ClassVar[str] = ""

    def display_name(self, row: Any, name: str = "") -> str:
        """The learner, the run or both, for people. name: the learner's name, if it is known."""
        who = name or getattr(row, "username", "")
        if not who and self.user_field:
            who = f"learner {row.user_id}"
        run = row.run.course_key if self.run_field == "run_id" else ""
        return " in ".join(filter(None, (who, run)))

    def display_names(self, rows: Sequence[Any]) -> list[str]:
        names: dict[int, str] = {}
        if self.user_field:
            names, _ = usernames({row.user_id for row in rows})
        return [self.display_name(row, names.get(getattr(row, "user_id", 0), "")) for row in rows]
