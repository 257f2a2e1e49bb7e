"""The claims about a learner that the application sends to the LMS."""

from typing import Any

from django.core.exceptions import ObjectDoesNotExist

from usher.application.accounts.details import full_name
from usher.application.adapter import adapter
from usher.application.user_model import primary_key_for_json
from usher.contract.oauth import SCOPE_USER_READ


def lms_username(user: Any) -> str:
    """The learner's username in the LMS, which never changes.

    The LMS identifies people by this name only, so the username is reserved before it is sent: the
    user's own name in this application may already be somebody else's in the LMS. Raises as
    ``ensure_account``.
    """
    try:
        return str(user.lms_account.username)
    except ObjectDoesNotExist:
        from usher.application.accounts.services import ensure_account

        return str(ensure_account(user).username)


def profile(user: Any) -> dict[str, Any]:
    """The answer of ``/api/users/me``. ``social-auth-mitxpro`` and ``ol-social-auth`` read
    ``username``, ``email`` and ``name``. Raises as ``lms_username``."""
    return {
        "id": primary_key_for_json(user),
        "username": lms_username(user),
        "email": adapter().email(user),
        "name": full_name(user),
        "country": adapter().country(user),
        "is_active": user.is_active,
    }


def claims(user: Any, scopes: set[str]) -> dict[str, Any]:
    """The OpenID claims that the scopes allow. ``sub`` is the LMS username, which is unique and
    never reused.

    ``ol-social-auth`` requests only ``user:read``, even if it uses discovery, and reads
    ``username``, ``email`` and ``name`` from the answer. Raises as ``lms_username``.
    """
    username = lms_username(user)
    result: dict[str, Any] = {"sub": username}
    reads_user = SCOPE_USER_READ in scopes
    if reads_user or "profile" in scopes:
        result |= {
            "name": full_name(user),
            "preferred_username": username,
            "username": username,
        }
    if reads_user or "email" in scopes:
        result["email"] = adapter().email(user)
    if reads_user:
        result["id"] = primary_key_for_json(user)
    return result
