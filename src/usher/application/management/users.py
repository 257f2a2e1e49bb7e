"""Finds the learner that a person names on the command line."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db.models import Q


def named(name: str) -> Any:
    """By username or e-mail, whatever the case. Raises CommandError."""
    model = get_user_model()
    field = model.USERNAME_FIELD
    asked = Q(**{f"{field}__iexact": name}) | Q(email__iexact=name)
    found = list(model._default_manager.filter(asked)[:2])
    if len(found) != 1:
        many = "Several learners are" if found else "No learner is"
        raise CommandError(f"{many} called {name!r}.")
    return found[0]
