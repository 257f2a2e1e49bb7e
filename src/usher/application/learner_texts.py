"""The texts that learners read about their enrollments and account, on pages and in the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from usher.application.accounts.eligibility import UNCONFIRMED
from usher.application.states import State, state

#: How long a learner waits before the text says that the preparation takes longer than usual.
_LATE_AFTER = timedelta(minutes=10)


@dataclass(frozen=True)
class LearnerText:
    """state: ``ready``, ``preparing``, ``late``, ``refused`` or ``closed``. label: a word or two
    for lists. text: sentences; '' when there is nothing to say. The LMS's own error messages are
    not included: they are for staff."""

    state: str
    label: str
    text: str = ""

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    @property
    def needs_staff(self) -> bool:
        """Whether staff must act before anything else happens. Pages then show an address to write
        to."""
        return self.state in ("refused", "closed")


_READY = LearnerText("ready", "Ready")
_ENROLLED = LearnerText("ready", "Enrolled")
_PREPARING = LearnerText(
    "preparing", "Being prepared", "Your place is being prepared. This takes a moment."
)
_LATE = LearnerText(
    "late",
    "Being prepared",
    "This takes longer than usual. We keep trying; you need not do anything.",
)
_REFUSED = LearnerText(
    "refused",
    "Needs our help",
    "The course could not be opened for you yet. Our staff can see this and will look into it.",
)
_RUN_MISSING = LearnerText(
    "closed",
    "Not available",
    "The course is not available in Open edX now. Our staff can see this and will look into it.",
)
_IN_OTHER_MODE = LearnerText(
    "ready",
    "Enrolled",
    "You can open the course. Your enrollment could not be changed yet. Our staff can see this and "
    "will look into it.",
)
_BEING_UNENROLLED = LearnerText("preparing", "Leaving", "You are being unenrolled.")
_UNENROLLMENT_REFUSED = LearnerText(
    "refused",
    "Needs our help",
    "You could not be unenrolled yet. Our staff can see this and will look into it.",
)
_ACCOUNT_PREPARING = LearnerText(
    "preparing",
    "Being prepared",
    "Your Open edX account is being created. You can enroll now; courses open in a moment.",
)
_ACCOUNT_UNCONFIRMED = LearnerText(
    "preparing",
    "Confirm your e-mail",
    "Your Open edX account is created once you have confirmed your e-mail address.",
)
_ACCOUNT_REFUSED = LearnerText(
    "refused",
    "Needs our help",
    "Your Open edX account could not be created yet. Our staff can see this and will look into it.",
)
_ACCOUNT_TAKEN = LearnerText(
    "refused",
    "Needs our help",
    "Your Open edX account could not be created yet: an account with your e-mail address already "
    "exists. Our staff can see this and will contact you.",
)
_ACCOUNT_CLOSED = LearnerText(
    "closed", "Closed", "Your Open edX account was deactivated, so courses can't be opened."
)


def of_account(account: Any) -> LearnerText:
    """The text about a learner's account. account: an ``LmsAccount``; None if the learner has none
    yet."""
    if account is None:
        return _ACCOUNT_PREPARING
    if account.is_ready:
        is_closed = account.observed_is_active is False
        return _ACCOUNT_CLOSED if is_closed else _READY
    if state(account) is State.REFUSED:
        is_taken = account.error_code.startswith("duplicate-email")
        return _ACCOUNT_TAKEN if is_taken else _ACCOUNT_REFUSED
    if account.error_code == UNCONFIRMED:
        return _ACCOUNT_UNCONFIRMED
    return _LATE if _is_late(account, account.reserved_at) else _ACCOUNT_PREPARING


def of_enrollment(row: Any, account: Any) -> LearnerText:
    """The text about an enrollment. row: an ``Enrollment``. account: its learner's ``LmsAccount``,
    or None."""
    if not row.is_active:
        return _UNENROLLMENT_REFUSED if state(row) is State.REFUSED else _BEING_UNENROLLED
    text = of_account(account)
    if text.needs_staff:
        # For an account that was refused, the text is about the course.
        return text if text is _ACCOUNT_CLOSED else _REFUSED
    if text is _ACCOUNT_UNCONFIRMED:
        return text
    if row.run_id and row.run.missing_since:
        return _RUN_MISSING
    if row.observed_is_active:  # the course opens, also while another mode is refused
        return _IN_OTHER_MODE if state(row) is State.REFUSED else _ENROLLED
    if state(row) is State.REFUSED:
        return _REFUSED
    return _LATE if _is_late(row, row.created_at) else _PREPARING


def _is_late(row: Any, since: Any) -> bool:
    return state(row) is State.RETRYING and timezone.now() - since > _LATE_AFTER
