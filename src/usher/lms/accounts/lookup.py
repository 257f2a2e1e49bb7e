"""Which names and addresses are taken, for many learners in a few queries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Lower

from usher.lms import conf


@dataclass(frozen=True)
class Taken:
    """Case-folded: names that differ only by case are the same to a person, and to MySQL."""

    usernames: frozenset[str]
    emails: frozenset[str]


def taken(usernames: Iterable[str], emails: Iterable[str]) -> Taken:
    """Those of ``usernames`` and ``emails`` that can't be given to a new account: in use by any
    account, retired, or reserved."""
    names = [name for name in usernames if name]
    addresses = [address for address in emails if address]
    used_names = {name.casefold() for name in _in_use("username", names)}
    used_addresses = {address.casefold() for address in _in_use("email", addresses)}
    platform = conf.platform()
    left = [name for name in names if name.casefold() not in used_names]
    left_addresses = [a for a in addresses if a.casefold() not in used_addresses]
    used_names |= {name.casefold() for name in platform.retired_usernames(left)}
    used_addresses |= {a.casefold() for a in platform.reserved_emails(left_addresses)}
    return Taken(frozenset(used_names), frozenset(used_addresses))


def _in_use(field: str, values: list[str]) -> list[str]:
    return list(users_by(field, values).values_list(field, flat=True)) if values else []


def users_by(field: str, values: list[str]) -> QuerySet:
    """Users whose ``field`` is one of ``values``, whatever the case."""
    users = get_user_model().objects.all()
    if connection.vendor == "mysql":
        # Its collation compares without case, and only so it can use the index.
        return users.filter(**{f"{field}__in": values})
    lowered = {value.lower() for value in values}
    return users.alias(_lowered=Lower(field)).filter(_lowered__in=lowered)
