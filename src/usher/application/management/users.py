"""Finds the learner that is named on the command line."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db.models import Q

from usher.application.user_model import naming_fields


def named(name: str) -> Any:
    """The user with this username, e-mail address or LMS username, in any case of letters. Raises
    CommandError if there is none, or several."""
    asked = Q()
    for field in naming_fields():
        asked |= Q(**{f"{field}__iexact": name})
    learners = get_user_model()._default_manager
    found = list(learners.filter(asked)[:2])
    found = found or list(learners.filter(lms_account__username__iexact=name)[:2])
    if len(found) != 1:
        if found:
            names = " and ".join(repr(str(one.get_username())) for one in found)
            raise CommandError(f"Several learners are called {name!r}, such as {names}: name one.")
        raise CommandError(
            f"No learner is called {name!r}. Give the whole e-mail address, username or LMS "
            "username; in the console, Learners also finds the beginning of one."
        )
    return found[0]
