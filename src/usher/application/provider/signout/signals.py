"""Handles Django's signals of sign-ins and sign-outs, from any page."""

from typing import Any

from django.contrib.auth import signals
from django.core.exceptions import ObjectDoesNotExist
from django.dispatch import receiver
from django.http import HttpRequest

from usher.application.provider.signout import sending, sessions


@receiver(signals.user_logged_in, dispatch_uid="usher_provider.signed_in")
def signed_in(request: HttpRequest, user: Any, **_: Any) -> None:
    sessions.record_session(request, user)


@receiver(signals.user_logged_out, dispatch_uid="usher_provider.signed_out")
def signed_out(request: HttpRequest, user: Any, **_: Any) -> None:
    session = getattr(request, "session", None)
    sessions.delete_record(session.session_key if session else None)
    if user is None:
        return
    try:
        username = user.lms_account.username
    except ObjectDoesNotExist:
        return  # has no LMS account
    sending.send(username)
