"""Receives the LMS's signed messages that a learner signed out in the LMS, and ends the learner's
sessions here."""

import json
import time
from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from usher.application import conf
from usher.application.audit.services import record
from usher.application.provider.models import SeenSignOut
from usher.application.provider.signout import sessions
from usher.application.requests import is_storable
from usher.contract import signatures

#: How far the clocks of the application and the LMS may differ.
CLOCK_TOLERANCE = timedelta(seconds=60)
#: How long the ids of messages are kept, to recognise a message that is sent again. Longer than a
#: signature is accepted, at most ``TOLERANCE_SECONDS`` before and after the message's time.
_REPLAY_PERIOD = timedelta(seconds=4 * signatures.TOLERANCE_SECONDS)


class SignOutRefused(Exception):
    """The message is not accepted; the error's text says why. status: of the HTTP answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def receive(request: HttpRequest, body: bytes) -> int:
    """Ends the sessions of the learner in the message. Returns how many sessions there were.

    A message that was received before ends nothing and is no error, since the LMS may not have got
    the answer. Raises SignOutRefused.
    """
    event_id = _verified_event_id(request, body)
    username, at = _read_body(body, event_id)
    with transaction.atomic():
        _, is_new = SeenSignOut.objects.get_or_create(event_id=event_id)
        return _end_sessions(username, at) if is_new else 0


def seen_messages_to_forget() -> QuerySet[SeenSignOut]:
    """The rows of messages that are too old to be accepted again."""
    return SeenSignOut.objects.filter(received_at__lt=timezone.now() - _REPLAY_PERIOD)


def _verified_event_id(request: HttpRequest, body: bytes) -> str:
    """The message's id, once the signature is verified. Raises SignOutRefused."""
    headers = request.headers
    secret = conf.settings().webhook_secret
    if not secret:
        raise SignOutRefused(503, "USHER_WEBHOOK_SECRET is not set.")
    event_id = headers.get(signatures.HEADER_EVENT_ID, "")
    signature = headers.get(signatures.HEADER_SIGNATURE, "")
    if not signatures.is_event_id(event_id):
        raise SignOutRefused(400, f"{signatures.HEADER_EVENT_ID} is missing or malformed.")
    timestamp = signatures.read_timestamp(headers.get(signatures.HEADER_TIMESTAMP, ""))
    if timestamp is None:
        raise SignOutRefused(400, f"{signatures.HEADER_TIMESTAMP} is not a number of seconds.")
    if not signatures.verify(
        secret,
        signature,
        timestamp=timestamp,
        event_id=event_id,
        body=body,
        now=time.time(),
    ):
        reason = "bad signature or clock"
        record("lms-sign-out", subject=event_id, request=request, succeeded=False, reason=reason)
        raise SignOutRefused(401, "The signature is wrong, or the timestamp too old.")
    return event_id


def _read_body(body: bytes, event_id: str) -> tuple[str, datetime]:
    """Username and time from the body ``{"event_id", "username", "at"}``. Raises SignOutRefused."""
    try:
        message = json.loads(body)
        username, at = message["username"], message["at"]
        moment = _read_time(at)
    except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError) as error:
        raise SignOutRefused(400, 'The body is not {"event_id", "username", "at"}.') from error
    if not isinstance(username, str) or not is_storable(username):
        raise SignOutRefused(400, "username is not a valid username.")
    if message.get("event_id", event_id) != event_id:
        raise SignOutRefused(400, "event_id is not the one that was signed.")
    # A time in the future is replaced by the present: adding to the largest date would fail.
    return username, min(moment, timezone.now())


def _read_time(at: object) -> datetime:
    """``at``, ISO 8601 text or Unix seconds, as a datetime."""
    if isinstance(at, str):
        moment = datetime.fromisoformat(at)
        # In UTC, since the database refuses a time before the year 1 in UTC.
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    if isinstance(at, int | float) and not isinstance(at, bool):
        return datetime.fromtimestamp(at, UTC)
    raise ValueError("at is neither text nor a number")


def _end_sessions(username: str, at: datetime) -> int:
    """Ends the sessions that the learner began before ``at``, or shortly after it, since the clocks
    may differ. Returns how many; 0 if no learner has that LMS username."""
    from usher.application.accounts.models import LmsAccount

    account = LmsAccount.objects.select_related("user").filter(username__iexact=username).first()
    if account is None:
        return 0
    ended = sessions.end_all(account.user, started_before=at + CLOCK_TOLERANCE)
    record("lms-sign-out", subject=username, actor=account.user, sessions=ended)
    return ended
