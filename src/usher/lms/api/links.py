"""Into which account the LMS signs one learner in, and who signs in to the account of that name."""

from __future__ import annotations

from typing import Any

from social_django.models import UserSocialAuth

from usher.lms.accounts import lookup
from usher.lms.connections.models import ConnectedApplication

#: Learners of the application who are named, where several sign in to one account.
_NAMED = 10


def describe_links(username: str, application: ConnectedApplication) -> dict[str, Any]:
    """``leads_to``: the account that the application's learner of this name signs in to.
    ``account``: the one of this name, with the application's learners who sign in to it."""
    link = lookup.link_of(application.backend, username)
    user = lookup.user_named(username)
    account = None
    if user is not None:
        links = UserSocialAuth.objects.filter(provider=application.backend, user=user)
        uids = links.order_by("pk").values_list("uid", flat=True)[:_NAMED]
        account = _account(user) | {"linked_from": list(uids)}
    return {
        "username": username,
        "application": application.name,
        "leads_to": _account(link.user) if link is not None else None,
        "account": account,
    }


def _account(user: Any) -> dict[str, Any]:
    return {"username": user.username, "lms_user_id": user.pk, "is_active": user.is_active}
