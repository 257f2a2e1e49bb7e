"""Differences between user models: a project's own may have other fields than Django's."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet


def active(users: QuerySet[Any]) -> QuerySet[Any]:
    """Those of ``users`` who are not deactivated; all users, if the user model has no field for
    this."""
    return users.filter(is_active=True) if "is_active" in _fields(users.model) else users


def naming_fields(model: Any = None) -> list[str]:
    """The fields by which people name a user: the name to sign in with, and the e-mail address if
    the user model has one. model: the project's user model by default."""
    model = model or get_user_model()
    email = [model.get_email_field_name()]
    return list(dict.fromkeys([model.USERNAME_FIELD, *_fields(model).intersection(email)]))


def signs_in_by_email(model: Any = None) -> bool:
    """Whether people sign in with their e-mail address. model: the project's user model by
    default."""
    model = model or get_user_model()
    return bool(model.get_email_field_name() == model.USERNAME_FIELD)


def primary_key_from_text(text: str, model: Any = None) -> Any:
    """``text`` converted to the type of a user's primary key; None when it cannot be one. model:
    the project's user model by default."""
    field = (model or get_user_model())._meta.pk
    try:
        value = field.to_python(text)
        field.run_validators(value)
    except (ValidationError, OverflowError, ValueError):
        return None
    return value


def primary_key_for_json(user: Any) -> int | str:
    """The user's primary key for JSON: an int, or text for any other type, such as a UUID."""
    return user.pk if isinstance(user.pk, int) else str(user.pk)


def _fields(model: Any) -> set[str]:
    return {field.name for field in model._meta.get_fields()}
