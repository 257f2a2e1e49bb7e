"""Describes the link between one learner of an application and an LMS account."""

from __future__ import annotations

from typing import Any

from social_django.models import UserSocialAuth

from usher.lms.accounts import lookup
from usher.lms.connections.models import ConnectedApplication

#: The most learners that ``linked_from`` lists.
_MAX_NAMED = 10


def describe_links(username: str, application: ConnectedApplication) -> dict[str, Any]:
    """Return two LMS accounts; either is None when there is none.

    ``leads_to``: the account that the application's learner ``username`` signs in to. ``account``:
    the account with that username. Its ``linked_from`` has the uids of the learners who sign in to
    it.
    """
    link = lookup.find_link(application.backend, username)
    user = lookup.find_user(username)
    account = None
    if user is not None:
        links = UserSocialAuth.objects.filter(provider=application.backend, user=user)
        uids = links.order_by("pk").values_list("uid", flat=True)[:_MAX_NAMED]
        account = _account(user) | {"linked_from": list(uids)}
    return {
        "username": username,
        "application": application.name,
        "leads_to": _account(link.user) if link is not None else None,
        "account": account,
    }


def _account(user: Any) -> dict[str, Any]:
    return {"username": user.username, "lms_user_id": user.pk, "is_active": user.is_active}
