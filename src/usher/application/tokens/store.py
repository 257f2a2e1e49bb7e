"""Writes learners' tokens, encrypted, many rows in one statement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from django.db.models import F
from django.db.models.functions import Now

from usher.application.tokens import vault
from usher.application.tokens.models import LmsToken
from usher.client.payloads import TokenPair
from usher.engine.lanes import Lane
from usher.engine.models import lock
from usher.engine.rows import update_rows


def encrypted_columns(pair: TokenPair) -> dict[str, object]:
    """Column of ``LmsToken`` → value, with the tokens encrypted."""
    return {
        "access_token": vault.encrypt(pair.access_token),
        "refresh_token": vault.encrypt(pair.refresh_token),
        "scope": pair.scope,
        "expires_at": pair.expires_at,
    }


def store_tokens(tokens: Mapping[int, TokenPair], now: datetime) -> None:
    """Saves tokens that the LMS returned with new accounts; their rows are then in sync. Must be
    called in a transaction. tokens: learner's id → tokens. now: the database's time."""
    if not tokens:
        return
    rows = list(LmsToken.objects.select_for_update().filter(user_id__in=tokens).order_by("pk"))
    user_ids = {row.user_id for row in rows}
    for row in rows:
        for name, value in encrypted_columns(tokens[row.user_id]).items():
            setattr(row, name, value)
        row.observed_at = now
    columns = ["access_token", "refresh_token", "scope", "expires_at", "observed_at"]
    update_rows(LmsToken, columns, rows)
    settled = LmsToken.objects.filter(user_id__in=user_ids)
    settled.update(observed_generation=F("generation"))
    settled.forget_work()
    missing = [
        LmsToken(
            user_id=user_id,
            observed_generation=1,  # equal to ``generation``: in sync
            observed_at=now,
            **encrypted_columns(pair),
        ).without_work()
        for user_id, pair in tokens.items()
        if user_id not in user_ids
    ]
    LmsToken.objects.bulk_create(missing, batch_size=500, ignore_conflicts=True)


def forget_tokens(user_ids: Sequence[int], lane: Lane = Lane.BACKGROUND) -> None:
    """Deletes the learners' tokens, which may be of an earlier LMS account, and makes their rows
    due in ``lane`` so that new ones are obtained. Must be called in a transaction."""
    if user_ids:
        rows = LmsToken.objects.filter(user_id__in=user_ids)
        lock(rows)
        rows.update(
            access_token="",
            refresh_token="",
            expires_at=None,
            generation=F("generation") + 1,
            wanted_at=Now(),
        )
        rows.make_due(lane=lane)
        rows.set_work(lane=lane)  # make_due keeps an earlier lane
