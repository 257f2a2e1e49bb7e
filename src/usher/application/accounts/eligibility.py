"""Who may have an LMS account now, and why others may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib.auth import get_user_model

from usher.application.adapter import DefaultAdapter, adapter
from usher.client.errors import LmsError
from usher.engine.kinds import Outcome

INACTIVE, UNCONFIRMED, NOT_ALLOWED = "inactive", "unconfirmed", "not-eligible"
#: Error code of records that are not sent for now → a sentence about the learner. (An e-mail
#: address that is not confirmed may be somebody else's.)
SENTENCES = {
    INACTIVE: "The user is deactivated in this application.",
    UNCONFIRMED: "The e-mail address is not confirmed.",
    NOT_ALLOWED: "USHER_ADAPTER does not allow this learner an LMS account.",
}


def eligible_ids(user_ids: Sequence[Any]) -> set[Any]:
    """Which of these learners may have an LMS account now."""
    return _filter_ids(adapter().eligible, user_ids)


def confirmed_ids(user_ids: Sequence[Any]) -> set[Any]:
    """Which of these learners have confirmed their e-mail address."""
    return _filter_ids(adapter().confirmed, user_ids)


def _filter_ids(filter_users: Callable[[Any], Any], user_ids: Sequence[Any]) -> set[Any]:
    """The ids of the users whom ``filter_users``, a method about a queryset of users, keeps."""
    if not user_ids:
        return set()
    users = get_user_model()._default_manager.filter(pk__in=user_ids)
    return set(filter_users(users).values_list("pk", flat=True))


def ineligibility_codes(users: Sequence[Any]) -> dict[Any, str]:
    """Why these users, who are not eligible, may have no LMS account now: user's id → a code of
    ``SENTENCES``."""
    ids = confirmed_ids([user.pk for user in users])
    return {user.pk: _code(user, is_confirmed=user.pk in ids) for user in users}


def ineligibility_code(user: Any) -> str:
    """Why the user may have no LMS account now, a code of ``SENTENCES``; '' for a user who may have
    one. Raises AdapterFailed."""
    if adapter().is_eligible(user):
        return ""
    return _code(user, is_confirmed=adapter().is_confirmed(user))


def _code(user: Any, *, is_confirmed: bool) -> str:
    """Why a user who is not eligible may have no LMS account. is_confirmed: whether the e-mail
    address is."""
    if not user.is_active:
        return INACTIVE
    return NOT_ALLOWED if is_confirmed else UNCONFIRMED


def require_decision(user: Any, decide: Callable[[Any], bool]) -> None:
    """Raises AdapterFailed if the project's adapter fails for this user.

    Call this for users whom ``eligible_ids`` or ``confirmed_ids`` left out: both functions also
    leave out users for whom the adapter fails. decide: the adapter's method about one user, such as
    ``is_eligible``; not called if the project has no adapter of its own.
    """
    if type(adapter()) is not DefaultAdapter:
        decide(user)


def outcome_of_unsent(code: str, user: Any, *, decide: Callable[[Any], bool]) -> Outcome:
    """The outcome of a user's record that is not sent for now. code: one of ``SENTENCES``. decide:
    as for ``require_decision``, whose error is raised."""
    require_decision(user, decide)
    return Outcome(error=LmsError(f"Not sent. {SENTENCES[code]}", code=code), is_waiting=True)
