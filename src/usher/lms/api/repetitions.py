"""Answers a repeated batch request with the outcomes of the first one.

A caller repeats a request when its answer was lost or late. A transaction that produces outcomes
also stores them, in a row that its first statement inserts. A repetition that arrives while the
first request is running inserts the same row, so the unique index makes it wait.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from oauth2_provider.models import get_refresh_token_model
from social_django.models import UserSocialAuth

from usher.lms.api.models import BatchOutcome
from usher.lms.api.tokens import mint_tokens
from usher.lms.api.transactions import UncleanRefusal
from usher.lms.connections.models import ConnectedApplication
from usher.lms.connections.services import is_protected
from usher.lms.errors import UsherLmsError

Item = dict[str, Any]

RETENTION = timedelta(days=1)
#: On average, one of this many requests deletes old rows, at most ``_MAX_ROWS_TO_PRUNE``.
_PRUNE_ONE_REQUEST_IN, _MAX_ROWS_TO_PRUNE = 50, 2000
#: The message of UncleanRefusal, which makes this request process items one by one as well.
_ONE_BY_ONE = "an earlier request processed these items one by one"


class RequestIdReused(UsherLmsError):
    """The request id was used before, for other items."""


class StoredOutcomes:
    """The stored outcomes of one batch request. Without a request id nothing is stored. Sometimes
    the constructor also deletes old rows, of any request."""

    def __init__(
        self, application: ConnectedApplication, kind: str, request_id: str, items: list[Item]
    ) -> None:
        self.application = application
        self.request_id = request_id
        # A digest, because MySQL and MariaDB consider ids equal that differ only in case.
        self.key = _digest([kind, request_id])
        # The digest of all items is part of each transaction's digest. Without it, a request with
        # additional items would get the stored outcomes of those transactions whose items are the
        # same.
        self.digest = _digest(items) if request_id else ""
        must_prune = random.randrange(_PRUNE_ONE_REQUEST_IN) == 0  # noqa: S311 - spreads work
        if request_id and must_prune:
            prune()

    def process_once(
        self, start: int, items: list[Item], process: Callable[[], list[Item]]
    ) -> list[Item]:
        """The stored outcomes of ``items`` if an earlier request has the same id; otherwise the
        result of ``process()``, which is stored.

        start: number of the first item. Call it inside a transaction. Raises RequestIdReused, and
        UncleanRefusal if the earlier request processed these items one by one.
        """
        if not self.request_id:
            return process()
        row = BatchOutcome(
            application=self.application,
            request_id=self.key,
            start=start,
            digest=_digest([self.digest, *items]),
        )
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            return self._stored_outcomes(row, items)
        if len(items) > 1 and self._has_outcomes_of_later_items(start, len(items)):
            # The first of these items failed then, so that it has no row.
            raise UncleanRefusal(_ONE_BY_ONE)
        outcomes = process()
        row.outcomes = json.dumps(_replace_tokens_by_row_ids(outcomes))
        row.save(update_fields=["outcomes"])
        return outcomes

    def _has_outcomes_of_later_items(self, start: int, number: int) -> bool:
        """Whether an earlier request stored outcomes that begin at an item after the first of these
        ``number`` items."""
        rows = BatchOutcome.objects.filter(application=self.application, request_id=self.key)
        return rows.filter(start__gt=start, start__lt=start + number).exists()

    def _stored_outcomes(self, row: BatchOutcome, items: list[Item]) -> list[Item]:
        """The outcomes that an earlier request stored. row: the row that could not be inserted,
        because that request's row exists. Raises what ``process_once`` raises."""
        # Locking reads see rows committed since the transaction began.
        rows = BatchOutcome.objects.select_for_update()
        stored = rows.get(application=self.application, request_id=self.key, start=row.start)
        if stored.digest == row.digest:
            return _restore_tokens(json.loads(stored.outcomes), self.application)
        outcomes = json.loads(stored.outcomes)
        # One outcome in place of several: the earlier request processed these items one by one.
        # UncleanRefusal makes this request do the same, and find the row of each item.
        if len(outcomes) == 1 and len(items) > 1:
            raise UncleanRefusal(_ONE_BY_ONE)
        raise RequestIdReused(
            f"request_id {self.request_id!r} was used for other items; use a new one for "
            "each request that is not a repetition"
        )


def _digest(values: list[Any]) -> str:
    """SHA-256 of the values as JSON."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _replace_tokens_by_row_ids(outcomes: list[Item]) -> list[Item]:
    """Put the primary key of the refresh token in place of the tokens, so that no token is
    stored."""
    return [
        {**outcome, "tokens": {"row": outcome["tokens"].row}} if outcome.get("tokens") else outcome
        for outcome in outcomes
    ]


def _restore_tokens(outcomes: list[Item], application: ConnectedApplication) -> list[Item]:
    """Put the tokens back into ``outcomes``; mint new ones in place of tokens that were revoked or
    used. Learners who became staff, were deactivated or were unlinked since the first request get
    no tokens."""
    outcomes_by_token_row = {
        outcome["tokens"]["row"]: outcome for outcome in outcomes if outcome.get("tokens")
    }
    users = _users_by_id(
        [outcome["lms_user_id"] for outcome in outcomes_by_token_row.values()], application
    )
    for row, outcome in list(outcomes_by_token_row.items()):
        if outcome["lms_user_id"] not in users:
            outcomes_by_token_row.pop(row)["tokens"] = None
    rows = get_refresh_token_model().objects.filter(pk__in=outcomes_by_token_row, revoked=None)
    for row in rows.select_related("access_token"):
        if row.access_token is not None:
            outcomes_by_token_row.pop(row.pk)["tokens"] = {
                "access_token": row.access_token.token,
                "refresh_token": row.token,
                "expires_in": int((row.access_token.expires - timezone.now()).total_seconds()),
                "scope": row.access_token.scope,
            }
    # The tokens of the remaining outcomes were revoked or used.
    new_tokens = mint_tokens(
        [users[outcome["lms_user_id"]] for outcome in outcomes_by_token_row.values()],
        application.oauth_client_id,
    )
    for outcome, tokens in zip(outcomes_by_token_row.values(), new_tokens, strict=True):
        outcome["tokens"] = tokens
    return outcomes


def _users_by_id(ids: list[int], application: ConnectedApplication) -> dict[int, Any]:
    """User id → user, for those of ``ids`` for whom the service worker of ``application`` may act
    now."""
    links = UserSocialAuth.objects.filter(
        provider=application.backend, user_id__in=ids, user__is_active=True
    )
    links = links.select_related("user__usher_service_worker")
    return {link.user_id: link.user for link in links if not is_protected(link.user)}


def prune() -> None:
    """Delete outcomes older than a day, at most ``_MAX_ROWS_TO_PRUNE``."""
    old = BatchOutcome.objects.filter(created__lt=timezone.now() - RETENTION)
    ids = list(old.values_list("pk", flat=True)[:_MAX_ROWS_TO_PRUNE])
    BatchOutcome.objects.filter(pk__in=ids).delete()
