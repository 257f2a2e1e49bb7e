"""Adds messages to the outbox, in the transaction of the change that they report."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import Count, Min
from django.utils import timezone

from usher.contract.events import EventType
from usher.lms.connections.models import ConnectedApplication
from usher.lms.connections.services import applications_by_user
from usher.lms.events.models import Message
from usher.lms.events.wake import wake_sender

log = logging.getLogger(__name__)


#: Type, user id, username, course id ('' for changes of an account).
Note = tuple[EventType, int, str, str]
#: The most messages that ``backlog`` counts.
_BACKLOG_LIMIT = 100_000


@dataclass(frozen=True)
class OwnChanges:
    """Changes of one kind, by username and course id, that an application requested itself. They
    are logged, but the application gets no webhook about them."""

    application: ConnectedApplication
    kind: EventType
    pairs: frozenset[tuple[str, str]]

    def covers(self, application: ConnectedApplication, note: Note) -> bool:
        kind, _, username, course_id = note
        is_of_this_kind = application.pk == self.application.pk and kind == self.kind
        return is_of_this_kind and (username, course_id) in self.pairs


class _Gathered(threading.local):
    """Notes of this thread, saved at the end of ``gathering``; None outside of it."""

    notes: list[Note] | None = None


_gathered = _Gathered()


def note(kind: EventType, user_id: int | None, username: str, course_id: str = "") -> None:
    """Add messages for every application that signs this user in. Logs database errors instead of
    raising them, because receivers of signals call it."""
    if user_id is None:
        return
    if _gathered.notes is not None:
        _gathered.notes.append((kind, user_id, username, course_id))
        return
    try:
        with transaction.atomic():
            put([(kind, user_id, username, course_id)])
    except DatabaseError:
        log.exception(
            "A message (%s of %s) could not be saved; a sweep of the application finds the change.",
            kind,
            username,
        )


@contextmanager
def gathering(own: OwnChanges | None = None) -> Iterator[None]:
    """Collect notes within the block, and save them at its end without duplicates, in a few
    queries. If the block raises, the notes are dropped. An inner block leaves its notes to the
    outer block; ``own`` of the inner block is ignored."""
    if _gathered.notes is not None:
        yield
        return
    _gathered.notes = []
    try:
        yield
        notes = list(dict.fromkeys(_gathered.notes))
    finally:
        _gathered.notes = None
    put(notes, own)


def put(notes: Iterable[Note], own: OwnChanges | None = None) -> None:
    """Add the messages for ``notes``, and start the sender when the messages are committed. own:
    changes about which the application that made them gets no webhook."""
    notes = list(notes)
    if not notes:
        return
    applications = applications_by_user({user_id for _, user_id, _, _ in notes})
    messages = [
        _message(note, application, own)
        for note in notes
        for application in applications.get(note[1], [])
        if note[0] != EventType.SIGNED_OUT or address(note[0], application)
    ]
    Message.objects.bulk_create(messages)
    if any(message.next_attempt_at for message in messages):
        transaction.on_commit(wake_sender)


def _message(note: Note, application: ConnectedApplication, own: OwnChanges | None) -> Message:
    kind, _, username, course_id = note
    must_send = bool(address(kind, application)) and not (own and own.covers(application, note))
    return Message(
        application=application,
        type=kind.value,
        username=username,
        course_id=course_id,
        next_attempt_at=timezone.now() if must_send else None,
    )


def backlog(application: ConnectedApplication) -> dict[str, float]:
    """``waiting``: how many messages to this application are not yet sent, ``_BACKLOG_LIMIT`` at
    most. ``oldest_seconds``: how long the oldest of these messages has waited."""
    waiting = Message.objects.filter(application=application, next_attempt_at__isnull=False)
    counts = waiting[:_BACKLOG_LIMIT].aggregate(waiting=Count("pk"), oldest=Min("created"))
    oldest = counts["oldest"]
    seconds = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    return {"waiting": counts["waiting"], "oldest_seconds": max(0.0, seconds)}


def address(kind: str, application: Any) -> str:
    """The URL to send messages of this kind to; '' when the application has none."""
    if not application.webhook_secret:
        return ""
    if kind == EventType.SIGNED_OUT:
        return application.backchannel_logout_url
    return application.webhook_url
