"""Validates single fields of the registration form while the user types."""

import re
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator

from usher.contract.limits import USERNAME_MAX_LENGTH, USERNAME_MIN_LENGTH
from usher.embedded.student.models import email_exists_or_retired, username_exists_or_retired
from usher.embedded.user_authn import messages
from usher.embedded.user_authn.forms import (
    EMAIL_MAX_LENGTH,
    EMAIL_MIN_LENGTH,
    validate_username,
)
from usher.embedded.user_authn.suggestions import suggest_usernames

_LINK = re.compile(r"https?://(?:[-\w.]|(?:%[\da-fA-F]{2}))*")


def _name_error(data: Mapping[str, Any]) -> str:
    name = data.get("name")
    if not name:
        return messages.NAME_REQUIRED
    if len(name) > 255:
        return "Full name can't be longer than 255 symbols"
    return messages.NAME_INVALID if re.search("[<>]", name) or _LINK.search(name) else ""


def _username_error(data: Mapping[str, Any]) -> str:
    username = data.get("username")
    if not isinstance(username, str):
        return "Username must be a string"
    if not USERNAME_MIN_LENGTH <= len(username) <= USERNAME_MAX_LENGTH:
        return messages.USERNAME_LENGTH
    try:
        validate_username(username)
    except ValidationError as error:
        return str(error.message)
    return messages.USERNAME_TAKEN if username_exists_or_retired(username) else ""


def _email_error(data: Mapping[str, Any]) -> str:
    email = data.get("email")
    if not isinstance(email, str):
        return "Email must be a string"
    if not EMAIL_MIN_LENGTH <= len(email) <= EMAIL_MAX_LENGTH:
        return messages.EMAIL_SHORT
    try:
        EmailValidator(message=messages.EMAIL_INVALID)(email)
    except ValidationError as error:
        return str(error.message)
    return messages.EMAIL_TAKEN if email_exists_or_retired(email) else ""


def _confirm_email_error(data: Mapping[str, Any]) -> str:
    confirmed = data.get("confirm_email")
    return "" if confirmed and confirmed == data.get("email") else messages.EMAILS_DIFFER


def _password_error(data: Mapping[str, Any]) -> str:
    password, username = data.get("password"), data.get("username")
    if not isinstance(password, str):
        return "Password must be a string"
    owner = User(username=username, email=data.get("email") or "") if username else None
    try:
        validate_password(password, user=owner)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


def _country_error(data: Mapping[str, Any]) -> str:
    # ``--`` is the form's choice for no country.
    return messages.COUNTRY_REQUIRED if data.get("country") in {"", "--"} else ""


#: Field → function from all values to the field's error message, '' for a valid value.
_VALIDATORS = {
    "name": _name_error,
    "username": _username_error,
    "email": _email_error,
    "confirm_email": _confirm_email_error,
    "password": _password_error,
    "country": _country_error,
}


def validate_fields(data: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Error messages by field ('' for a valid value), and suggested usernames. If ``data`` has
    ``form_field_key``, only the field of this name is validated. Usernames are suggested for a
    taken username, or for a full name."""
    requested_field = data.get("form_field_key")
    fields = (
        [requested_field]
        if requested_field in _VALIDATORS
        else [name for name in _VALIDATORS if name in data]
    )
    decisions = {name: _VALIDATORS[name](data) for name in fields}
    suggestions: list[str] = []
    if "name" in fields and not decisions["name"]:
        suggestions = suggest_usernames(data["name"])
    username = data.get("username")
    has_username = "username" in fields and isinstance(username, str)
    if has_username and username_exists_or_retired(str(username)):
        suggestions = suggest_usernames(str(username))
    return decisions, suggestions
