"""Notifies each connected LMS that a learner signed out of the application.

A message is stored in the database until the LMS has accepted it, so no message is lost if a
process ends. A thread delivers the message. The sign-out request waits a moment for the delivery,
so that the LMS session has usually ended before the browser arrives at the LMS.
"""

import ssl
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone
from oauth2_provider.models import get_application_model
from oauth2_provider.settings import oauth2_settings

from usher.application import conf
from usher.application.audit.text import one_line
from usher.application.logs import logger
from usher.application.provider.models import SignOutMessage
from usher.application.provider.signout import logout_tokens

log = logger("usher.signout")

#: The most seconds that a sign-out request waits for the delivery.
_MAX_WAIT_SECONDS = 1.0
REQUEST_SECONDS = 5.0
FIRST_RETRY = timedelta(seconds=15)
GIVE_UP_AFTER = timedelta(hours=24)
#: The delay doubles with each attempt, at most so many times: up to an hour or so.
_MAX_DOUBLINGS = 8
#: Due messages that are tried until one can be claimed: other processes may claim the first ones.
_MAX_CLAIM_TRIES = 10
#: Seconds that a timer waits longer, so that the message is certainly due.
_TIMER_MARGIN_SECONDS = 0.1
#: Statuses after which a message is not sent again: the LMS has no such address, learner or
#: session.
_FINAL_STATUSES = {400, 401, 403, 404, 405, 410}

_workers = ThreadPoolExecutor(2, thread_name_prefix="usher-signout")


class Alarm:
    """Schedules the next retry in this process; one timer at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None

    def set(self, seconds: float | None) -> None:
        """Delivers due messages after this many seconds, and cancels the time that was set before.
        None only cancels."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if seconds is not None:
                self._timer = threading.Timer(seconds + _TIMER_MARGIN_SECONDS, _start_delivery)
                self._timer.daemon = True
                self._timer.start()


alarm = Alarm()


def send(subject: str) -> None:
    """Stores a message for each connected LMS and starts the delivery, after the current
    transaction if there is one. Waits for the delivery, but no longer than about a second.

    subject: the learner's LMS username. Does nothing without ``OIDC_RSA_PRIVATE_KEY``, which signs
    the messages.
    """
    messages = [
        SignOutMessage(application=client, subject=subject)
        for client in get_application_model().objects.select_related("usher_policy").iterator()
        if sign_out_address(client)
    ]
    if not messages or not oauth2_settings.OIDC_RSA_PRIVATE_KEY:
        return
    SignOutMessage.objects.bulk_create(messages)
    transaction.on_commit(_deliver_and_wait)


def _deliver_and_wait() -> None:
    """Delivers the messages in a thread, and waits for it for ``_MAX_WAIT_SECONDS`` at most."""
    wait_for([_start_delivery()], timeout=_MAX_WAIT_SECONDS)


def _start_delivery() -> "Future[None]":
    return _workers.submit(_deliver_in_thread)


def _deliver_in_thread() -> None:
    """Delivers the due messages and schedules the next delivery."""
    try:
        deliver_due()
        alarm.set(seconds_to_next())
    except Exception:
        log.exception("sign-out messages stay queued")
        raise
    finally:
        connections.close_all()


def seconds_to_next() -> float | None:
    """Seconds until the next stored message is due; None if there is none."""
    first = SignOutMessage.objects.order_by("next_attempt_at").first()
    if first is None:
        return None
    return max(0.0, (first.next_attempt_at - timezone.now()).total_seconds())


def sign_out_address(client: Any) -> str:
    """The address at which this client receives sign-out messages; '' if it receives none.

    For the LMS in the settings, the address is made from the settings, since the stored one may be
    outdated.
    """
    settings = conf.settings()
    if client.name == settings.oauth_app_name:
        return settings.backchannel_logout_url
    try:
        return str(client.usher_policy.backchannel_logout_url)
    except ObjectDoesNotExist:
        return ""


def deliver_due() -> int:
    """Sends the messages that are due. Returns how many the LMS accepted. Safe in several
    processes."""
    count = 0
    with httpx.Client(
        timeout=REQUEST_SECONDS, follow_redirects=False, trust_env=False, verify=_tls_context()
    ) as http:
        while message := _claim():
            if _deliver(http, message):
                count += 1
    return count


@cache
def _tls_context() -> ssl.SSLContext:
    """One TLS context for the process: making one reads every certificate, which takes 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


def _claim() -> SignOutMessage | None:
    """One due message, or None. Postpones the message first, so that another attempt follows if
    this process dies."""
    now = timezone.now()
    due = SignOutMessage.objects.filter(next_attempt_at__lte=now).order_by("next_attempt_at", "id")
    for message in due.select_related("application__usher_policy")[:_MAX_CLAIM_TRIES]:
        delay = FIRST_RETRY * 2 ** min(message.attempts, _MAX_DOUBLINGS)
        if SignOutMessage.objects.filter(pk=message.pk, attempts=message.attempts).update(
            attempts=F("attempts") + 1, next_attempt_at=now + delay
        ):
            return message
    return None


def _deliver(http: httpx.Client, message: SignOutMessage) -> bool:
    """Sends the message, and deletes it unless it is to be sent again. Returns whether the LMS
    accepted it."""
    settings = conf.settings()
    issuer = oauth2_settings.OIDC_ISS_ENDPOINT or f"{settings.site_base_url}/oauth2"
    token = logout_tokens.make(message.application, message.subject, issuer)
    try:
        # Only the status matters, and the body may be endless: it is not read.
        with http.stream(
            "POST", sign_out_address(message.application), data={"logout_token": token}
        ) as response:
            status, is_accepted = response.status_code, response.is_success
    except httpx.HTTPError as error:
        _keep_or_give_up(message, f"{type(error).__name__}: {error}")
        return False
    if is_accepted or status in _FINAL_STATUSES:
        message.delete()
        log.info("lms told of sign-out", subject=message.subject, status=status)
    else:
        _keep_or_give_up(message, f"the LMS answered {status}")
    return is_accepted


def _keep_or_give_up(message: SignOutMessage, error: str) -> None:
    """Keeps a message that was not delivered for the next attempt, or deletes an old one."""
    if timezone.now() - message.created_at > GIVE_UP_AFTER:
        message.delete()  # the LMS's session has probably expired by now
    else:
        SignOutMessage.objects.filter(pk=message.pk).update(last_error=one_line(error))
    log.warning("lms not told of sign-out", subject=message.subject, error=one_line(error))
