"""Facts about a few of the newest learners, for doctor's checks."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from usher.application.accounts.models import LmsAccount, Retirement
from usher.application.accounts.naming import clean_username
from usher.application.enrollments.models import Enrollment

#: How many of the newest learners are described, and how many usernames each list has.
_MAX_NEWEST = 25
_MAX_INACTIVE = 1_000
#: Usernames begin with so many characters of the text that they are made from. The rest may be cut,
#: or replaced by a number.
_COMPARED_CHARACTERS = 25


def facts() -> dict[str, Any]:
    """The part of ``ApplicationReport`` about learners, by the report's keys."""
    newest = list(LmsAccount.objects.select_related("user").order_by("-pk")[:_MAX_NEWEST])
    inactive = LmsAccount.objects.filter(is_active=False)
    of_deleted_learners = Retirement.objects.all()
    deactivated_in_lms = LmsAccount.objects.filter(LmsAccount.DEACTIVATED_IN_LMS)
    return {
        "learner_runs": _runs([row for row in newest if row.is_ready]),
        "inactive_accounts": _newest_usernames(inactive) + _newest_usernames(of_deleted_learners),
        "deactivated_in_lms": _newest_usernames(deactivated_in_lms),
        # Usher reserves a username before it creates the row, so normally there is none.
        "unfinished": {"count": LmsAccount.objects.filter(username="").count(), "sample": ""},
        "email_usernames": [row.username for row in newest if _shows_address(row)],
    }


def _newest_usernames(rows: QuerySet[Any]) -> list[str]:
    """The usernames of some of ``rows``, newest first."""
    return list(rows.order_by("-pk").values_list("username", flat=True)[:_MAX_INACTIVE])


def _runs(accounts: list[LmsAccount]) -> dict[str, list[str]]:
    """LMS username → the keys of all runs in which the learner has an enrollment here, in any
    state."""
    runs_by_name: dict[str, list[str]] = {row.username: [] for row in accounts}
    names = {row.user_id: row.username for row in accounts}
    rows = Enrollment.objects.filter(user_id__in=names)
    for user_id, key in rows.values_list("user_id", "run__course_key"):
        runs_by_name[names[user_id]].append(key)
    return runs_by_name


def _shows_address(account: LmsAccount) -> bool:
    """Whether other learners in the LMS could read the e-mail address from the username."""
    user = account.user
    email = str(getattr(user, user.get_email_field_name(), "") or "")
    beginning = clean_username(email).lower()[:_COMPARED_CHARACTERS]
    return bool(email) and account.username.lower().startswith(beginning)
