"""Facts about a few of the newest learners, for doctor's checks."""

from __future__ import annotations

from typing import Any

from usher.application.accounts.models import LmsAccount
from usher.application.accounts.naming import clean_username
from usher.application.enrollments.models import Enrollment

_NEWEST = 25
_INACTIVE = 1_000


def facts() -> dict[str, Any]:
    newest = list(LmsAccount.objects.select_related("user").order_by("-pk")[:_NEWEST])
    return {
        "learner_runs": _runs([row for row in newest if row.is_ready]),
        "inactive_accounts": list(
            LmsAccount.objects.filter(is_active=False)
            .order_by("-pk")
            .values_list("username", flat=True)[:_INACTIVE]
        ),
        "deactivated_in_lms": list(
            LmsAccount.objects.filter(LmsAccount.DEACTIVATED_IN_LMS)
            .order_by("-pk")
            .values_list("username", flat=True)[:_INACTIVE]
        ),
        "unfinished": {"count": LmsAccount.objects.filter(username="").count(), "sample": ""},
        "email_usernames": [row.username for row in newest if _is_address(row)],
    }


def _runs(accounts: list[LmsAccount]) -> dict[str, list[str]]:
    """Every run in which these learners have an enrollment of any state here."""
    found: dict[str, list[str]] = {row.username: [] for row in accounts}
    names = {row.user_id: row.username for row in accounts}
    rows = Enrollment.objects.filter(user_id__in=names)
    for user_id, key in rows.values_list("user_id", "run__course_key"):
        found[names[user_id]].append(key)
    return found


def _is_address(account: LmsAccount) -> bool:
    """Whether other learners in the LMS could read the e-mail address from the username."""
    user = account.user
    email = str(getattr(user, user.get_email_field_name(), "") or "")
    return bool(email) and account.username.lower().startswith(clean_username(email).lower()[:25])
