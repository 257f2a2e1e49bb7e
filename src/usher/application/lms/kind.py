"""The base class of this application's kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.db.models import F, Q

from usher.application.accounts.services import usernames
from usher.engine.kinds import Kind

#: Values of the learner's account, for the rows of a kind which have a user. lms_username: None if
#: no username is reserved yet. account_is_ready: whether the account is known to exist and, if an
#: operator linked it, is linked in the LMS too.
ACCOUNT = {
    "lms_username": F("user__lms_account__username"),
    "account_is_ready": Q(
        user__lms_account__created_in_lms_at__isnull=False,
        user__lms_account__observed_generation__gt=0,
    ),
}


class LmsKind(Kind):
    """A kind whose other system is the LMS: ``context`` is an ``LmsContext``, and
    ``batch_capability`` one of ``usher.lms``."""

    #: The column with the course run's id; '' for rows that do not belong to a run.
    run_field: ClassVar[str] = ""

    def display_name(self, row: Any, name: str = "") -> str:
        """The learner, the run or both, for people. name: the learner's LMS username, if the caller
        knows it."""
        who = name or getattr(row, "username", "")
        if not who and self.user_field:
            who = f"learner {row.user_id}"
        run = row.run.course_key if self.run_field == "run_id" else ""
        return " in ".join(filter(None, (who, run)))

    def display_names(self, rows: Sequence[Any]) -> list[str]:
        names: dict[int, str] = {}
        if self.user_field:
            names = usernames({row.user_id for row in rows})
        return [self.display_name(row, names.get(getattr(row, "user_id", 0), "")) for row in rows]
