"""The base of the kinds of this application."""

from __future__ import annotations

from typing import Any, ClassVar

from usher.engine.kinds import Kind


class LmsKind(Kind):
    """``batch_capability`` is that of ``usher.lms``, and ``context`` an ``LmsContext``."""

    #: The column that holds the course run's id, '' for rows of no run.
    run_field: ClassVar[str] = ""

    def what(self, row: Any, name: str = "") -> str:
        """The learner, the run or both, for people. name: the learner's, where it is known."""
        who = name or getattr(row, "username", "")
        if not who and self.user_field:
            who = f"learner {row.user_id}"
        run = row.run.course_key if self.run_field == "run_id" else ""
        return " in ".join(filter(None, (who, run)))
