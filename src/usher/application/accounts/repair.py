"""Creates the missing LMS accounts and tokens of learners, and repairs broken ones."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils import timezone

from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account, ensure_accounts
from usher.application.adapter import eligible_among
from usher.application.arguments import require_user
from usher.application.tokens.kinds import RENEW_BEFORE_SECONDS, TokenKind
from usher.application.tokens.models import LmsToken
from usher.engine.made_due import MadeDue
from usher.engine.services import (
    Patience,
    Progress,
    add_earlier,
    make_due,
    open_gates,
    reconcile,
)
from usher.engine.summary import Summary

_KINDS = ("account", "token")
_ROWS_AT_A_TIME = 1000


def count_missing(user: Any = None) -> int:
    """The number of eligible learners without a working LMS account or token. Does not count
    learners whom the LMS's staff deactivated. user: counts only this learner."""
    rows = get_user_model()._default_manager.exclude(lms_account__observed_is_active=False)
    if user is not None:
        require_user(user)
        rows = rows.filter(pk=user.pk)
    no_account = Q(lms_account__isnull=True) | Q(lms_account__created_in_lms_at__isnull=True)
    no_token = Q(lms_token__isnull=True) | Q(lms_token__expires_at__isnull=True)
    expiring = Q(lms_token__expires_at__lt=timezone.now() + timedelta(seconds=RENEW_BEFORE_SECONDS))
    return sum(map(len, eligible_among(rows.filter(no_account | no_token | expiring))))


def repair(user: Any = None, *, wait: float = 0.0, progress: Progress | None = None) -> Summary:
    """Creates or retries the accounts and tokens that are missing, failed, refused or expired. Safe
    to repeat and to interrupt.

    user: repairs only this learner's account and token. wait: total seconds to wait for retries.
    progress: called after every write, with the summary so far. Raises the errors of
    ``engine.services.reconcile`` and of ``ensure_account``.
    """
    from usher.application.accounts.kinds import AccountKind

    of_learner = Q() if user is None else Q(user=user)
    if user is None:
        ensure_accounts()
    else:
        ensure_account(user)
    no_account = of_learner & Q(created_in_lms_at__isnull=True, is_active=True)
    count = make_due(AccountKind(), no_account)
    _ensure_tokens(of_learner)
    renewal_limit = timezone.now() + timedelta(seconds=RENEW_BEFORE_SECONDS)
    # Only tokens of existing accounts: the creation of an account also obtains its token.
    no_token = (
        of_learner
        & Q(user__lms_account__created_in_lms_at__isnull=False, user__lms_account__is_active=True)
        & (Q(expires_at__isnull=True) | Q(expires_at__lt=renewal_limit))
    )
    count += make_due(TokenKind(), no_token)
    open_gates(_KINDS)
    made_due = MadeDue(account=no_account, token=no_token)
    made_due.rows = count
    summary = reconcile(
        _KINDS, user=user, made_due=made_due, patience=Patience(wait), progress=progress
    )
    return add_earlier(summary, _KINDS, user=user)


def _ensure_tokens(of_learner: Q) -> None:
    """Creates the token rows of accounts without one, such as adopted accounts."""
    last_pk = 0
    accounts = LmsAccount.objects.filter(of_learner, user__lms_token__isnull=True)
    while page := list(
        accounts.filter(pk__gt=last_pk)
        .order_by("pk")
        .values_list("pk", "user_id")[:_ROWS_AT_A_TIME]
    ):
        LmsToken.objects.bulk_create(
            [LmsToken(user_id=user_id) for _, user_id in page],
            ignore_conflicts=True,
        )
        last_pk, _ = page[-1]
