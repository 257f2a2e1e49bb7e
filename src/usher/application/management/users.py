"""Finds the learner that is named on the command line."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.db.models import Q

from usher.application.accounts.models import LmsAccount, Retirement, UsernameReservation
from usher.application.requests import is_storable
from usher.application.states import State, next_step, state
from usher.application.user_model import naming_fields

#: The most learners that are named if several are found.
_MAX_SHOWN = 5


def find_user(name: str) -> Any:
    """The user with this username, e-mail address or LMS username; in another case too, if only one
    user matches. Raises CommandError if no user or several users match."""
    if not name or not is_storable(name):  # such as an argument with bytes that are not UTF-8
        raise CommandError(f"No learner is called {name!r}.")
    learners = get_user_model()._default_manager
    users = (
        _users_named(name, "exact")
        or list(learners.filter(lms_account__username__iexact=name)[:_MAX_SHOWN])
        or _users_named(name, "iexact")
    )
    if len(users) > 1:
        names = ", ".join(_distinct_name(user) for user in users)
        raise CommandError(f"Several learners are called {name!r}. Give one of these: {names}")
    if not users:
        if deleted := _describe_deleted(name):
            raise CommandError(deleted)
        raise CommandError(
            f"No learner is called {name!r}. Give the whole e-mail address, username or LMS "
            "username."
        )
    return users[0]


def _users_named(name: str, lookup: str) -> list[Any]:
    """Some of the users with this username or e-mail address. lookup: ``exact``, or ``iexact`` to
    ignore case."""
    condition = Q()
    for field in naming_fields():
        condition |= Q(**{f"{field}__{lookup}": name})
    return list(get_user_model()._default_manager.filter(condition)[:_MAX_SHOWN])


def _describe_deleted(name: str) -> str:
    """What is known about a deleted learner with this LMS username; '' if there is none."""
    reserved = UsernameReservation.objects.filter(username__iexact=name, user=None).first()
    if reserved is None:
        return ""
    text = f"The learner with the LMS username {reserved.username} was deleted here."
    row = Retirement.objects.filter(username=reserved.username).first()
    if row is None:
        return f"{text} The name stays reserved."
    if state(row) is State.IN_SYNC:
        return f"{text} The LMS has no active account of that name; the name stays reserved."
    error = f" {row.error_message} [{row.error_code}]" if row.error_code else ""
    step = f" {next_step(row)}" if next_step(row) else ""
    return f"{text} The LMS account is not deactivated yet: {state(row)}.{error}{step}"


def _distinct_name(user: Any) -> str:
    """The LMS username, which only one user has, or else the username."""
    account = LmsAccount.objects.filter(user=user).first()
    return account.username if account else str(user.get_username())
