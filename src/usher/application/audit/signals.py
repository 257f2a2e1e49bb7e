"""Records every sign-in and sign-out that Django signals."""

from typing import Any

from django.contrib.auth import signals
from django.dispatch import receiver
from django.http import HttpRequest

from usher.application.audit.services import record


@receiver(signals.user_logged_in, dispatch_uid="usher_audit.signed_in")
def signed_in(request: HttpRequest, user: Any, **_: Any) -> None:
    record("sign-in", subject=user.get_username(), actor=user, request=request)


@receiver(signals.user_logged_out, dispatch_uid="usher_audit.signed_out")
def signed_out(request: HttpRequest, user: Any, **_: Any) -> None:
    if user is not None:  # None if nobody was signed in
        record("sign-out", subject=user.get_username(), actor=user, request=request)


@receiver(signals.user_login_failed, dispatch_uid="usher_audit.refused")
def refused(credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any) -> None:
    name = credentials.get("username") or credentials.get("email") or ""
    record("sign-in", subject=name, request=request, succeeded=False)
