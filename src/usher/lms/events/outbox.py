"""Adds messages to the outbox, in the transaction of the change that they report."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import DatabaseError, transaction
from django.db.models import Count, Min
from django.utils import timezone

from usher.contract.events import EventType
from usher.lms.connections.models import ConnectedApplication
from usher.lms.connections.services import applications_by_user
from usher.lms.events.models import Message
from usher.lms.events.wake import wake_sender

log = logging.getLogger(__name__)


#: The most messages that ``count_waiting`` counts.
_BACKLOG_LIMIT = 100_000


class Change(NamedTuple):
    """A change of which applications are notified. course_id: '' for changes of an account."""

    kind: EventType
    user_id: int
    username: str
    course_id: str = ""


@dataclass(frozen=True)
class OwnChanges:
    """Changes of one kind, by username and course id, that an application requested itself. They
    are logged, but the application gets no webhook about them."""

    application: ConnectedApplication
    kind: EventType
    pairs: frozenset[tuple[str, str]]

    def covers(self, application: ConnectedApplication, change: Change) -> bool:
        """Whether ``application`` requested this change itself."""
        if application.pk != self.application.pk or change.kind != self.kind:
            return False
        return (change.username, change.course_id) in self.pairs


class _CollectedChanges(threading.local):
    """The changes that this thread collects within ``collecting_changes``; None outside of it."""

    changes: list[Change] | None = None


_collected = _CollectedChanges()


def record_change(kind: EventType, user_id: int | None, username: str, course_id: str = "") -> None:
    """Add messages for every application that signs this user in; within ``collecting_changes``,
    only remember the change. Logs database errors instead of raising them, because receivers of
    signals call this function. user_id: None does nothing."""
    if user_id is None:
        return
    change = Change(kind, user_id, username, course_id)
    if _collected.changes is not None:
        _collected.changes.append(change)
        return
    try:
        with transaction.atomic():
            add_messages([change])
    except DatabaseError:
        log.exception(
            "A message (%s of %s) could not be saved; a sweep of the application finds the change.",
            kind,
            username,
        )


@contextmanager
def collecting_changes(own_changes: OwnChanges | None = None) -> Iterator[None]:
    """Collect changes within the block. Add their messages at the end of the block, without
    duplicates and in a few queries; if the block raises, add none.

    An inner block leaves its changes to the outer block, and its ``own_changes`` is ignored.
    """
    if _collected.changes is not None:
        yield
        return
    _collected.changes = []
    try:
        yield
        changes = list(dict.fromkeys(_collected.changes))
    finally:
        _collected.changes = None
    add_messages(changes, own_changes)


def add_messages(changes: Iterable[Change], own_changes: OwnChanges | None = None) -> None:
    """Add the messages for ``changes``, and start the sender when the messages are committed.
    own_changes: changes of which the application that made them is not notified."""
    changes = list(changes)
    if not changes:
        return
    applications = applications_by_user({change.user_id for change in changes})
    messages = [
        _message(change, application, own_changes)
        for change in changes
        for application in applications.get(change.user_id, [])
        # A sign-out is not logged for an application that can't be notified of it.
        if change.kind != EventType.SIGNED_OUT or message_url(change.kind, application)
    ]
    Message.objects.bulk_create(messages)
    if any(message.next_attempt_at for message in messages):
        transaction.on_commit(wake_sender)


def _message(
    change: Change, application: ConnectedApplication, own_changes: OwnChanges | None
) -> Message:
    """An unsaved message. A message that need not be sent is only an entry of the log."""
    must_send = bool(message_url(change.kind, application)) and not (
        own_changes and own_changes.covers(application, change)
    )
    return Message(
        application=application,
        type=change.kind.value,
        username=change.username,
        course_id=change.course_id,
        next_attempt_at=timezone.now() if must_send else None,
    )


def count_waiting(application: ConnectedApplication) -> dict[str, float]:
    """``waiting``: how many messages to this application are not yet sent, ``_BACKLOG_LIMIT`` at
    most. ``oldest_seconds``: how long the oldest of these messages has waited."""
    waiting = Message.objects.filter(application=application, next_attempt_at__isnull=False)
    counts = waiting[:_BACKLOG_LIMIT].aggregate(waiting=Count("pk"), oldest=Min("created"))
    oldest = counts["oldest"]
    seconds = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    return {"waiting": counts["waiting"], "oldest_seconds": max(0.0, seconds)}


def message_url(kind: str, application: Any) -> str:
    """The URL to send messages of this kind to; '' when the application has no such URL, or no
    secret to sign messages with."""
    if not application.webhook_secret:
        return ""
    if kind == EventType.SIGNED_OUT:
        return application.backchannel_logout_url
    return application.webhook_url
