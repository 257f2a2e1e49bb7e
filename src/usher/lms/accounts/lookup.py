"""Finds a learner's account, and usernames and e-mail addresses that are taken.

MySQL and MariaDB ignore case and accents in comparisons: a query for ``bóss`` finds ``boss``. The
functions that find a learner compare again in Python and ignore such matches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Lower
from social_django.models import UserSocialAuth

from usher.lms import conf


def find_link(backend: str, uid: str) -> Any:
    """The link of the learner with exactly this ``uid`` at ``backend``; None if there is no such
    link."""
    link = UserSocialAuth.get_social_auth(backend, uid)
    return link if link is not None and link.uid == uid else None


def find_user(username: str) -> Any:
    """The user with exactly this username; None if there is no such user."""
    user = get_user_model().objects.filter(username=username).first()
    return user if user is not None and user.username == username else None


@dataclass(frozen=True)
class TakenIdentifiers:
    """Usernames and e-mail addresses that are taken, case-folded: names that differ only by case
    count as the same, to people and to MySQL."""

    usernames: frozenset[str]
    emails: frozenset[str]


def find_taken(
    usernames: Iterable[str], emails: Iterable[str], *, except_user: Any = None
) -> TakenIdentifiers:
    """Those of ``usernames`` and ``emails`` that can't be given to an account, because they are
    used by another account, retired, or reserved for account recovery. except_user: a user whose
    own username and address don't count as taken."""
    names = [name for name in usernames if name]
    addresses = [address for address in emails if address]
    used_names = _in_use("username", names, except_user)
    used_addresses = _in_use("email", addresses, except_user)
    platform = conf.platform()
    free_names = [name for name in names if name.casefold() not in used_names]
    free_addresses = [address for address in addresses if address.casefold() not in used_addresses]
    used_names |= {name.casefold() for name in platform.retired_usernames(free_names)}
    used_addresses |= {address.casefold() for address in platform.reserved_emails(free_addresses)}
    return TakenIdentifiers(frozenset(used_names), frozenset(used_addresses))


def _in_use(field: str, values: list[str], except_user: Any) -> set[str]:
    """Those of ``values``, case-folded, that the database considers equal to some user's."""
    if not values:
        return set()
    users = _exclude_user(get_user_model().objects.all(), except_user)
    wanted_values = {value.casefold() for value in values}
    rows = _exclude_user(users_with(field, values), except_user)
    values_in_use = {value.casefold() for value in rows.values_list(field, flat=True)}
    used_values = wanted_values & values_in_use
    if values_in_use - wanted_values:
        # Some row matched in the database only, for example with another accent. Query the values
        # one by one to find out which of them matched it.
        unmatched_values = (value for value in values if value.casefold() not in used_values)
        used_values |= {
            value.casefold()
            for value in unmatched_values
            if users.filter(**{field: value}).exists()
        }
    return used_values


def _exclude_user(users: QuerySet, user: Any) -> QuerySet:
    return users if user is None else users.exclude(pk=user.pk)


def users_with(field: str, values: list[str]) -> QuerySet:
    """Users whose ``field`` is one of ``values``, ignoring case."""
    users = get_user_model().objects.all()
    if connection.vendor == "mysql":
        # The collation ignores case; LOWER() would keep MySQL from using the index.
        return users.filter(**{f"{field}__in": values})
    lowered = {value.lower() for value in values}
    return users.alias(_lowered=Lower(field)).filter(_lowered__in=lowered)
