"""Reads accounts, and lets their owners change them."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from usher.embedded.student.models import PendingEmailChange, UserProfile, email_exists_or_retired
from usher.embedded.user_api.models import ACCOUNT_VISIBILITY_KEY, UserPreference
from usher.embedded.user_api.serializers import BIO_MAX_LENGTH, ProfileSerializer, account_data
from usher.embedded.user_authn.forms import validate_name

#: Read-only fields of the account API.
_READ_ONLY = frozenset(
    {
        "username",
        "date_joined",
        "is_active",
        "password_toggle_history",
        "profile_image",
        "requires_parental_consent",
    }
)


class UserNotFound(Exception):
    pass


class UserNotAuthorized(Exception):
    pass


class AccountValidationError(Exception):
    """field_errors: field name → ``developer_message`` and ``user_message``."""

    def __init__(self, field_errors: dict[str, Any]) -> None:
        super().__init__("account not valid")
        self.field_errors = field_errors


class AccountUpdateError(Exception):
    def __init__(self, message: str, user_message: str | None = None) -> None:
        super().__init__(message)
        self.developer_message, self.user_message = message, user_message


def read_accounts(
    request: Any, usernames: list[str], view: str | None = None
) -> list[dict[str, Any]]:
    """Accounts as the requester may see them: all fields for staff and the owner (unless
    ``view=shared``), else the shared ones. Without usernames, the requester's own account.

    Unknown usernames are left out. Raises UserNotFound if no account is found.
    """
    requester = request.user
    users = list(
        User.objects.select_related("profile").filter(
            username__in=usernames or [requester.username]
        )
    )
    if not users:
        raise UserNotFound
    all_fields: list[str] = settings.ACCOUNT_VISIBILITY_CONFIGURATION["admin_fields"]

    def may_see_all_fields(user: User) -> bool:
        return view != "shared" and (requester.is_staff or requester.username == user.username)

    return [
        account_data(user, all_fields if may_see_all_fields(user) else None, request)
        for user in users
    ]


def _field_error(message: str, user_message: str) -> dict[str, str]:
    return {"developer_message": message, "user_message": user_message}


def _serializer_errors(serializer: ProfileSerializer, update: dict[str, Any]) -> dict[str, Any]:
    """Invalid field of the profile → ``_field_error``. update: the values of the request."""
    if serializer.is_valid():
        return {}
    errors = {}
    for name, details in serializer.errors.items():
        messages = [str(detail) for detail in details] if isinstance(details, list) else details
        message = "This value is invalid."
        if name == "bio":
            message = f"The about me field must be at most {BIO_MAX_LENGTH} characters long."
        errors[name] = _field_error(
            f"Value '{update.get(name, '')}' is not valid for field '{name}': {messages}", message
        )
    return errors


def _email_error(user: User, email: str) -> str:
    """Why this can't be the new address of ``user``; '' if it can."""
    try:
        validate_email(email)
    except ValidationError:
        return "Valid e-mail address required."
    return "Old email is the same as the new email." if email == user.email else ""


def _validate_changes(
    user: User, profile: UserProfile, update: dict[str, Any]
) -> ProfileSerializer:
    """The serializer with the valid changes, not saved yet. Deletes from ``update`` an e-mail
    address that another account has. Raises AccountValidationError with all errors."""
    field_errors: dict[str, Any] = {}
    for name in sorted(_READ_ONLY & set(update)):
        field_errors[name] = _field_error(
            "This field is not editable via this API", f"The '{name}' field cannot be edited."
        )
        del update[name]
    serializer = ProfileSerializer(profile, data=update, partial=True)
    field_errors |= _serializer_errors(serializer, update)
    if "email" in update:
        problem = _email_error(user, update["email"])
        if problem:
            field_errors["email"] = _field_error(
                f"Error thrown from validate_new_email: '{problem}'", problem
            )
        elif email_exists_or_retired(update["email"]):
            # The same answer as for a free address, so that the answer does not reveal accounts.
            del update["email"]
    if "name" in update and update["name"] != profile.name and "name" not in field_errors:
        try:
            validate_name(update["name"])
        except ValidationError as error:
            field_errors["name"] = _field_error(
                f"Error thrown from validate_name: '{error.message}'", str(error.message)
            )
    if field_errors:
        raise AccountValidationError(field_errors)
    return serializer


def update_account(requester: User, update: dict[str, Any], username: str) -> None:
    """Change an account; only its owner may. A new e-mail address waits for confirmation
    (``PendingEmailChange``). Raises UserNotAuthorized, UserNotFound, AccountValidationError,
    AccountUpdateError."""
    if requester.username != username:
        raise UserNotAuthorized
    user = User.objects.filter(username=username).first()
    if user is None:
        raise UserNotFound
    profile, _ = UserProfile.objects.get_or_create(user=user)
    if "email" in update and not settings.FEATURES.get("ALLOW_EMAIL_ADDRESS_CHANGE", True):
        raise AccountUpdateError("Email address changes have been disabled by the site operators.")
    old_name = profile.name
    serializer = _validate_changes(user, profile, update)
    serializer.save()
    if "account_privacy" in update:
        UserPreference.set_value(user, ACCOUNT_VISIBILITY_KEY, str(update["account_privacy"]))
    if "name" in update and update["name"] != old_name:
        _record_former_name(profile, old_name, requester)
    if "country" in update and update["country"] != UserProfile.COUNTRY_WITH_STATES:
        profile.state = None
        profile.save()
    if update.get("email"):
        change = PendingEmailChange.objects.filter(user=user).first()
        (change or PendingEmailChange(user=user)).request_change(update["email"])


def _record_former_name(profile: UserProfile, old_name: str, requester: User) -> None:
    meta = profile.get_meta()
    meta.setdefault("old_names", []).append(
        [
            old_name,
            f"Name change requested through account API by {requester.username}",
            datetime.now(UTC).isoformat(),
        ]
    )
    profile.set_meta(meta)
    profile.save()
