"""Finds learners by id, username, e-mail address or LMS username, using indexes only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, OperationalError, connection, transaction
from django.db.models import Func, QuerySet
from django.db.models.expressions import OrderBy
from django.db.models.functions import Lower, Upper

from usher.application.accounts.models import LmsAccount, UsernameReservation
from usher.application.requests import is_storable
from usher.application.user_model import naming_fields, primary_key_from_text

#: The most users that ``find`` and ``find_similar`` return.
MAX_RESULTS = 20
_MAX_SIMILAR = 5
#: The fewest characters for a search by the beginning of a name.
_MIN_LENGTH = 3
#: The limit for one query: PostgreSQL cancels a slower one, for example if an index is missing.
_MAX_MILLISECONDS = 1000
#: PostgreSQL's code of the error for a query that was cancelled.
_QUERY_CANCELED = "57014"


@dataclass
class SearchResult:
    """The users that a search found. users: at most ``MAX_RESULTS``. is_prefix_search: whether the
    users were searched by the beginning of a name or address. is_slow: whether a query was
    cancelled because a large table has no index for the query."""

    users: list[Any] = field(default_factory=list)
    is_prefix_search: bool = False
    is_slow: bool = False


def find(text: str) -> SearchResult:
    """Searches for exactly this id, username, e-mail address or LMS username; if nobody matches and
    the text is not too short, for usernames and e-mail addresses that begin with the text."""
    text = text.strip()
    if not text or not is_storable(text):
        return SearchResult()
    result = SearchResult()
    for rows in _exact_matches(text):
        users = _fetch_with_timeout(rows, result)
        result.users += [user for user in users if user not in result.users]
    if not result.users and len(text) >= _MIN_LENGTH:
        result.is_prefix_search = True
        for user in _users_with_prefix(text, result):
            if user not in result.users:
                result.users.append(user)
    result.users = result.users[:MAX_RESULTS]
    return result


def find_similar(user: Any) -> list[Any]:
    """Returns other users whose username or e-mail address begins with this user's username or
    e-mail address, up to its ``@``."""
    prefixes = []
    for name in naming_fields():
        prefix, _, _ = str(getattr(user, name) or "").partition("@")
        if len(prefix) >= _MIN_LENGTH and prefix not in prefixes:
            prefixes.append(prefix)
    others: list[Any] = []
    result = SearchResult()  # the page does not say whether this search was slow
    for prefix in prefixes:
        for match in _users_with_prefix(prefix, result):
            if match != user and match not in others:
                others.append(match)
    return others[:_MAX_SIMILAR]


def _users_with_prefix(text: str, result: SearchResult) -> Iterator[Any]:
    """Yields users of whom a name or address begins with the text; a user may be yielded twice.
    Sets ``is_slow`` of the result as ``_fetch_with_timeout`` does."""
    for rows in _prefix_matches(text):
        for user in _fetch_with_timeout(rows, result):
            if _has_prefix(user, text):
                yield user


def _exact_matches(text: str) -> Iterator[QuerySet[Any]]:
    """Yields one query for each column that may identify a user."""
    model = get_user_model()
    users = model._default_manager.all()
    lowered_text = text.lower()
    # By id.
    pk = primary_key_from_text(text)
    if pk is not None:
        yield users.filter(pk=pk)
    # By username and e-mail address.
    for name in naming_fields():
        if _has_index(model, name, Lower):
            yield users.alias(lowered=Lower(name)).filter(lowered=lowered_text)
        elif _has_index(model, name, Upper):
            yield users.filter(**{f"{name}__iexact": text})
        elif text == lowered_text:
            yield users.filter(**{f"{name}__in": [text]})
        else:
            # Without such an index, a search for any capitalization would read the whole table.
            yield users.filter(**{f"{name}__in": [text, lowered_text]})
    # By LMS username.
    for record in (LmsAccount, UsernameReservation):
        rows: Any = record._default_manager.alias(lowered=Lower("username"))
        matches = rows.filter(lowered=lowered_text, user__isnull=False)[:MAX_RESULTS]
        yield users.filter(pk__in=list(matches.values_list("user_id", flat=True)))


def _prefix_matches(text: str) -> Iterator[QuerySet[Any]]:
    """Yields one query for each name and address of users. The last results of a query may begin
    with another text."""
    model = get_user_model()
    users = model._default_manager.all()
    for name in naming_fields():
        if _has_index(model, name, Lower):
            lowered_text = text.lower()
            rows = users.annotate(lowered=Lower(name)).order_by("lowered")
            # The matches come first in this order; the caller leaves out the rest.
            yield rows.filter(lowered__gte=lowered_text)
        else:
            yield users.filter(**{f"{name}__startswith": text}).order_by(name)


def _has_prefix(user: Any, text: str) -> bool:
    values = (str(getattr(user, name) or "") for name in naming_fields())
    return any(value.lower().startswith(text.lower()) for value in values)


def _has_index(model: Any, name: str, function: type[Func]) -> bool:
    """Whether an index or unique constraint starts with that function of the field."""
    for definition in (*model._meta.indexes, *model._meta.constraints):
        expressions = getattr(definition, "expressions", None)
        if not expressions:
            continue
        first = expressions[0]
        if isinstance(first, OrderBy):
            first = first.expression
        if not isinstance(first, function):
            continue
        arguments = first.get_source_expressions()
        if arguments and getattr(arguments[0], "name", "") == name:
            return True
    return False


def _fetch_with_timeout(rows: QuerySet[Any], result: SearchResult) -> list[Any]:
    """Reads at most ``MAX_RESULTS`` rows. Returns none, and sets ``is_slow`` of the result, if the
    query takes more than ``_MAX_MILLISECONDS``."""
    if connection.vendor != "postgresql":
        return list(rows[:MAX_RESULTS])
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('statement_timeout')")
            previous_timeout = cursor.fetchone()[0]
            cursor.execute(f"SET LOCAL statement_timeout = {_MAX_MILLISECONDS}")
            users = list(rows[:MAX_RESULTS])
            # A transaction around this one keeps its own timeout.
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [previous_timeout])
            return users
    except OperationalError as error:
        if not _is_cancelled(error):
            raise
        result.is_slow = True
        return []


def _is_cancelled(error: DatabaseError) -> bool:
    return getattr(error.__cause__, "sqlstate", "") == _QUERY_CANCELED
