"""A request that is sent again, because its answer was lost or late, finds what came of it.

The outcomes of each transaction are kept in that same transaction. Its first statement adds the
row, so that a repetition which comes while the first one is at work waits for it on the unique
index instead of doing the work beside it.
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
from usher.lms.connections.services import protected
from usher.lms.errors import UsherLmsError

Item = dict[str, Any]

KEPT = timedelta(days=1)
#: One request in so many removes old rows, and not too many of them.
_PRUNING, _PRUNED_AT_ONCE = 50, 2000


class RequestIdReused(UsherLmsError):
    """The same request id came with other items."""


class Repetitions:
    """Of one request. Without an id nothing is kept."""

    def __init__(self, application: ConnectedApplication, kind: str, request_id: str) -> None:
        self.application = application
        self.request_id = f"{kind[:1]}:{request_id}" if request_id else ""
        if request_id and random.randrange(_PRUNING) == 0:  # noqa: S311 - spreads work
            prune()

    def once(self, start: int, items: list[Item], work: Callable[[], list[Item]]) -> list[Item]:
        """The outcomes of ``items``, by ``work`` or by an earlier request of the same id; inside
        a transaction. Raises RequestIdReused."""
        if not self.request_id:
            return work()
        text = json.dumps(items, sort_keys=True, default=str)
        row = BatchOutcome(
            application=self.application,
            request_id=self.request_id,
            start=start,
            digest=hashlib.sha256(text.encode()).hexdigest(),
        )
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError:
            return self._found(row, items)
        outcomes = work()
        row.outcomes = json.dumps(_without_tokens(outcomes))
        row.save(update_fields=["outcomes"])
        return outcomes

    def _found(self, row: BatchOutcome, items: list[Item]) -> list[Item]:
        # Locking reads see rows committed since the transaction began.
        rows = BatchOutcome.objects.select_for_update()
        found = rows.get(application=self.application, request_id=self.request_id, start=row.start)
        if found.digest == row.digest:
            return _with_tokens(json.loads(found.outcomes), self.application)
        outcomes = json.loads(found.outcomes)
        if len(outcomes) == 1 < len(items):
            raise UncleanRefusal("they were carried out one by one before")
        raise RequestIdReused(
            f"request_id {self.request_id[2:]!r} was used for other items; use a new one for "
            "each request that is not a repetition"
        )


def _without_tokens(outcomes: list[Item]) -> list[Item]:
    tokens = [outcome["tokens"]["refresh_token"] for outcome in outcomes if outcome.get("tokens")]
    if not tokens:
        return outcomes
    rows = get_refresh_token_model().objects.filter(token__in=tokens)
    ids = dict(rows.values_list("token", "pk"))
    return [
        {**outcome, "tokens": {"row": ids[outcome["tokens"]["refresh_token"]]}}
        if outcome.get("tokens")
        else outcome
        for outcome in outcomes
    ]


def _with_tokens(outcomes: list[Item], application: ConnectedApplication) -> list[Item]:
    """Tokens that have been revoked or used since are minted again, for who may still have them:
    somebody may have become staff, or been unlinked, since the first request."""
    asked = {o["tokens"]["row"]: o for o in outcomes if o.get("tokens")}
    users = _learners([outcome["lms_user_id"] for outcome in asked.values()], application)
    for row, outcome in list(asked.items()):
        if outcome["lms_user_id"] not in users:
            asked.pop(row)["tokens"] = None
    rows = get_refresh_token_model().objects.filter(pk__in=asked, revoked=None)
    for row in rows.select_related("access_token"):
        if row.access_token is not None:
            asked.pop(row.pk)["tokens"] = {
                "access_token": row.access_token.token,
                "refresh_token": row.token,
                "expires_in": int((row.access_token.expires - timezone.now()).total_seconds()),
                "scope": row.access_token.scope,
            }
    minted = mint_tokens(
        [users[outcome["lms_user_id"]] for outcome in asked.values()], application.oauth_client_id
    )
    for outcome, tokens in zip(asked.values(), minted, strict=True):
        outcome["tokens"] = tokens
    return outcomes


def _learners(ids: list[int], application: ConnectedApplication) -> dict[int, Any]:
    """Those of these users for whom the service worker of ``application`` may act now."""
    links = UserSocialAuth.objects.filter(
        provider=application.backend, user_id__in=ids, user__is_active=True
    )
    found = {link.user_id: link.user for link in links.select_related("user")}
    rights = protected(found)
    return {pk: user for pk, user in found.items() if pk not in rights}


def prune() -> None:
    old = BatchOutcome.objects.filter(created__lt=timezone.now() - KEPT)
    ids = list(old.values_list("pk", flat=True)[:_PRUNED_AT_ONCE])
    BatchOutcome.objects.filter(pk__in=ids).delete()
