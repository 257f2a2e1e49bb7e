"""Queues changes of users for the LMS."""

from typing import Any

import structlog
from allauth.account.signals import (
    email_changed,
    password_changed,
    password_reset,
    password_set,
    user_signed_up,
)
from django.contrib.auth.signals import user_logged_in
from django.dispatch import receiver

from usher.application.accounts.naming import NoFreeName
from usher.application.accounts.services import ensure_account, follow_profile
from usher.application.adapter import AdapterFailed
from usher.application.audit.services import record

log = structlog.get_logger("campus.accounts")


@receiver(user_logged_in, dispatch_uid="campus.ensure_account")
def request_lms_account(user: Any, **_: Any) -> None:
    """Queue the user's LMS account at each sign-in. The first sign-in follows the confirmation of
    the e-mail address."""
    try:
        ensure_account(user)
    except (NoFreeName, AdapterFailed) as error:
        # The sign-in succeeds nevertheless.
        log.warning("could not request an LMS account", username=user.username, error=str(error))


@receiver(email_changed, dispatch_uid="campus.email_changed")
def follow_changed_address(request: Any, user: Any, from_email_address: Any, **_: Any) -> None:
    # allauth sends the signal also when a new user's first address is confirmed.
    if from_email_address is not None:
        record("e-mail-changed", subject=user.username, actor=user, request=request)
    follow_profile(user)


@receiver(user_signed_up, dispatch_uid="campus.signed_up")
def record_sign_up(request: Any, user: Any, **_: Any) -> None:
    record("sign-up", subject=user.username, actor=user, request=request)


@receiver([password_changed, password_reset, password_set], dispatch_uid="campus.password")
def record_changed_password(request: Any, user: Any, **_: Any) -> None:
    record("own-password-changed", subject=user.username, actor=user, request=request)
