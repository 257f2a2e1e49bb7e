"""Sends the messages of the outbox.

Any number of senders may run at the same time. A sender claims a message by moving its next attempt
into the future; only the sender whose update changed the row sends it. When a sender dies, its
messages become due again after ``LEASE``.
"""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from usher.contract import signatures
from usher.contract.events import EventType
from usher.lms.events.models import Message
from usher.lms.events.outbox import message_url
from usher.lms.outgoing import NO_ANSWER as NO_ANSWER_ERRORS
from usher.lms.outgoing import Session

log = logging.getLogger(__name__)

#: Seconds to connect, and to wait for the answer.
TIMEOUT = (3, 10)
#: How long a message is claimed: longer than one attempt can take.
LEASE = timedelta(seconds=60)
#: Seconds until the second attempt; doubled after each further attempt, up to the longest delay.
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 5, 3600
#: The attempts take about a day and a half; the application's sweep finds the change earlier.
MAX_ATTEMPTS = 40
#: How long the log of changes reaches back.
RETENTION = timedelta(days=30)
#: Seconds that an application's messages take before the other applications have their turn.
SECONDS_A_TURN = 5.0
#: Messages that one query reads.
MESSAGES_A_QUERY = 100
#: Rows that one statement deletes, and the number of rows after which ``delete_in_portions`` stops.
ROWS_A_DELETE, MAX_DELETED_ROWS = 1000, 100_000
#: The beginning of ``last_error`` when the application did not answer.
NO_ANSWER = "no answer"
#: The length of the column ``last_error``.
LONGEST_ERROR = 255


@dataclass
class DeliveryCounts:
    """Numbers of attempts that one call of ``send_due`` made."""

    delivered: int = 0
    failed: int = 0


def send_due() -> DeliveryCounts:
    """Send all due messages, oldest first.

    An application that does not answer is skipped for the rest of this round, and the applications
    take turns, so that one that is silent or slow does not delay the messages of the others.
    """
    counts = DeliveryCounts()
    silent_application_ids: set[int] = set()
    #: Application id → seconds of its turn that it has used.
    seconds_used: dict[int, float] = {}
    #: Applications whose turn is over.
    paused_ids: set[int] = set()
    with Session() as session:
        while True:
            due = Message.objects.filter(next_attempt_at__lte=timezone.now())
            skipped_ids = silent_application_ids | paused_ids
            due = due.exclude(application_id__in=skipped_ids).select_related("application")
            has_claimed = False
            for message in due.order_by("next_attempt_at", "pk")[:MESSAGES_A_QUERY]:
                application_id = message.application_id
                if application_id in silent_application_ids | paused_ids or not _claim(message):
                    continue
                has_claimed = True
                started = time.monotonic()
                if not _attempt(session, message, counts):
                    silent_application_ids.add(application_id)
                used = seconds_used.get(application_id, 0.0) + time.monotonic() - started
                seconds_used[application_id] = used
                if used > SECONDS_A_TURN:
                    paused_ids.add(application_id)
            if not has_claimed and not paused_ids:
                # Nothing is due, or other senders have claimed all due messages.
                break
            if not has_claimed:
                # Every application with due messages has had its turn: the next turns begin.
                paused_ids.clear()
                seconds_used.clear()
    return counts


def prune() -> int:
    """Delete messages older than ``RETENTION``, sent or not; return how many."""
    return delete_in_portions(Message.objects.filter(created__lt=timezone.now() - RETENTION))


def delete_in_portions(rows: Any) -> int:
    """Delete these rows in portions, so that no statement locks a large part of a table. Stops when
    ``MAX_DELETED_ROWS`` or more are deleted. Returns how many."""
    number = 0
    while number < MAX_DELETED_ROWS:
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:ROWS_A_DELETE])
        if not ids:
            break
        rows.model.objects.filter(pk__in=ids).delete()
        number += len(ids)
    return number


def _claim(message: Message) -> bool:
    """Claim the message. Returns False if another sender has claimed it."""
    leased_until = timezone.now() + LEASE
    unchanged_row = Message.objects.filter(pk=message.pk, next_attempt_at=message.next_attempt_at)
    if not unchanged_row.update(next_attempt_at=leased_until):
        return False
    message.next_attempt_at = leased_until
    return True


def _attempt(session: Session, message: Message, counts: DeliveryCounts) -> bool:
    """Send a message and record the result. Returns False if the request got no answer, not even an
    answer with an error status."""
    url = message_url(message.type, message.application)
    error = (
        _post(session, message, url)
        if url
        else "the application has no URL for this message any more"
    )
    message.attempts += 1
    message.last_error = error[:LONGEST_ERROR]
    if not error:
        message.delivered_at = timezone.now()
        message.next_attempt_at = None
        counts.delivered += 1
    else:
        given_up = not url or message.attempts >= MAX_ATTEMPTS
        message.next_attempt_at = None if given_up else timezone.now() + _delay(message.attempts)
        counts.failed += 1
        log.warning(
            "Message %s to %s was not delivered: %s",
            message.type,
            message.application.name,
            error,
        )
    message.save(update_fields=["attempts", "last_error", "delivered_at", "next_attempt_at"])
    return not error.startswith(NO_ANSWER)


def _post(session: Session, message: Message, url: str) -> str:
    """Post the message to the application. Returns why the application did not accept it; '' when
    the application did."""
    body, now = _body(message), int(time.time())
    event_id = _event_id(message)
    signature = signatures.sign(
        message.application.webhook_secret, timestamp=now, event_id=event_id, body=body
    )
    headers = {
        "Content-Type": "application/json",
        signatures.HEADER_EVENT_ID: event_id,
        signatures.HEADER_TIMESTAMP: str(now),
        signatures.HEADER_SIGNATURE: signature,
    }
    try:
        # Redirects are not followed: only the provisioned URL gets messages. The body of the answer
        # is not read: only the status counts, and the body may be endless.
        with session.post(
            url, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True
        ) as answer:
            status = answer.status_code
    except NO_ANSWER_ERRORS as error:
        return f"{NO_ANSWER} ({type(error).__name__})"
    return "" if 200 <= status < 300 else f"answered {status}"


def _body(message: Message) -> bytes:
    """The JSON that the application receives. A sign-out has a form of its own."""
    if message.type == EventType.SIGNED_OUT:
        content: dict[str, Any] = {
            "event_id": _event_id(message),
            "username": message.username,
            "at": message.created.isoformat(),
        }
    else:
        data = {"username": message.username}
        if message.course_id:
            data["course_id"] = message.course_id
        content = {"type": message.type, "data": data, "at": message.created.isoformat()}
    return json.dumps(content).encode()


def _delay(attempts: int) -> timedelta:
    """The time until the next attempt: exponential backoff with jitter, so that an application that
    recovers does not get all messages at the same time."""
    longest = min(FIRST_DELAY_SECONDS * 2 ** (attempts - 1), LONGEST_DELAY_SECONDS)
    return timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311 - not a secret


def _event_id(message: Message) -> str:
    """The id in one format, whichever release of Django stored it."""
    return str(uuid.UUID(message.event_id))
