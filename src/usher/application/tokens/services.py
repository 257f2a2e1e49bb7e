"""Learners' tokens for the LMS: the functions that the rest of an application calls."""

from __future__ import annotations

import time
from typing import Any

from django.db import transaction

from usher.application.accounts.services import ensure_account
from usher.application.arguments import require_user
from usher.application.tokens import vault
from usher.application.tokens.errors import NoAccount
from usher.application.tokens.models import LmsToken
from usher.client.errors import LmsError
from usher.contract.failures import FailureClass
from usher.engine.lanes import current_lane
from usher.engine.rows import update_rows
from usher.engine.transactions import refuse_within_transaction

__all__ = ["access_token_for", "rotate_keys"]

#: Seconds for which a returned token is valid at least, and the longest wait for a renewal by
#: another process.
_VALID_FOR_SECONDS = 60
_WAIT_SECONDS = 30.0
#: Seconds between two looks at a row that another process has claimed.
_LOOK_SECONDS = 0.1


def access_token_for(user: Any) -> str:
    """The learner's access token for the LMS, valid for at least a minute.

    Creates the learner's LMS account if there is none, and obtains or renews the token if needed.
    Only one caller at a time does so, since the row's lease serves as a lock: a refresh token can
    be used only once. Raises NoAccount when the LMS account cannot be created now, LmsError when
    the token cannot be obtained, and InTransaction when it would have to be obtained within a
    transaction.
    """
    require_user(user)
    row = _token_row(user)
    deadline = time.monotonic() + _WAIT_SECONDS
    while not row.is_valid_for(_VALID_FOR_SECONDS):
        former_end = row.expires_at
        _reconcile_token(user)
        row = _token_row(user)
        if row.is_valid_for(_VALID_FOR_SECONDS):
            break
        if row.is_settled and row.expires_at and row.expires_at != former_end:
            # Each further renewal would give such a token too.
            raise LmsError(
                "The LMS gives access tokens that are valid for less than "
                f"{_VALID_FOR_SECONDS} seconds. Raise the lifetime of access tokens in the LMS.",
                code="token-too-short",
            )
        if row.error_code and not row.lease_owner:  # failed, and no worker has claimed it
            raise _as_error(row)
        if time.monotonic() > deadline:
            raise LmsError("Another worker did not renew the learner's token in time.")
        time.sleep(_LOOK_SECONDS)
    try:
        return vault.decrypt(row.access_token)
    except vault.Unreadable:
        # Without its token, the row counts as expired, and a new token is obtained.
        LmsToken.objects.filter(pk=row.pk).update(access_token="", expires_at=None)
        return access_token_for(user)


def _token_row(user: Any) -> LmsToken:
    """The learner's row. If there is none, requests an account, which creates both rows."""
    row = LmsToken.objects.filter(user=user).first()
    if row is None:
        ensure_account(user)
        row = LmsToken.objects.get(user=user)
    return row


def _reconcile_token(user: Any) -> None:
    """Reconciles the learner's token now, unless a worker has claimed it already. Raises NoAccount
    and InTransaction as ``access_token_for``."""
    from usher.engine.services import reconcile

    refuse_within_transaction()
    account = ensure_account(user, reconcile_now=True)
    if not account.is_ready:
        raise NoAccount(f"{account.username} has no LMS account yet: {account.error_message}")
    LmsToken.objects.filter(user=user).unclaimed().make_due(lane=current_lane())
    reconcile(["token"], user=user)


def _as_error(row: LmsToken) -> LmsError:
    """The row's error, to raise."""
    error = LmsError(row.error_message, code=row.error_code)
    error.failure_class = FailureClass(row.error_class)
    return error


def rotate_keys(*, batch: int = 500) -> tuple[int, int]:
    """Encrypts all tokens with the newest key, ``batch`` learners at a time.

    Returns the number of learners whose tokens were encrypted, and the number of learners whose
    tokens no key could decrypt. Unreadable tokens are deleted, and their rows made due to obtain
    new ones.
    """
    last_pk, total_rotated, total_unreadable = 0, 0, 0
    while True:
        # Locked, so that a token renewed by a worker at the same time is not overwritten.
        with transaction.atomic():
            locked_rows = LmsToken.objects.select_for_update().filter(pk__gt=last_pk)
            rows = list(locked_rows.order_by("pk")[:batch])
            if not rows:
                return total_rotated, total_unreadable
            rotated, unreadable = _reencrypt(rows)
        total_rotated += rotated
        total_unreadable += unreadable
        last_pk = rows[-1].pk


def _reencrypt(rows: list[LmsToken]) -> tuple[int, int]:
    """Encrypts the tokens of these rows with the newest key. Deletes the tokens that no key can
    decrypt, and makes their rows due. Returns how many rows were encrypted, and how many were
    unreadable."""
    rotated, unreadable = 0, []
    for row in rows:
        if not row.access_token and not row.refresh_token:
            continue
        try:
            row.access_token = vault.reencrypt(row.access_token)
            row.refresh_token = vault.reencrypt(row.refresh_token)
            rotated += 1
        except vault.Unreadable:
            row.access_token, row.refresh_token, row.expires_at = "", "", None
            unreadable.append(row.pk)
    update_rows(LmsToken, ["access_token", "refresh_token", "expires_at"], rows)
    LmsToken.objects.filter(pk__in=unreadable).make_due()
    return rotated, len(unreadable)
