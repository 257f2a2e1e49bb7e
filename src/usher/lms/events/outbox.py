"""Putting messages into the outbox, inside the transaction of what they tell about."""

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


Note = tuple[EventType, int, str, str]
_COUNTED = 100_000


@dataclass(frozen=True)
class Asked:
    """What an application asked for itself and therefore is not told: changes of one kind, by
    username and course id. They are in the log all the same."""

    application: ConnectedApplication
    kind: EventType
    about: frozenset[tuple[str, str]]

    def covers(self, application: ConnectedApplication, note: Note) -> bool:
        kind, _, username, course_id = note
        ours = application.pk == self.application.pk and kind == self.kind
        return ours and (username, course_id) in self.about


class _Gathered(threading.local):
    """Notes of this thread that wait for the end of ``gathering``; None outside of it."""

    notes: list[Note] | None = None


_gathered = _Gathered()


def note(kind: EventType, user_id: int | None, username: str, course_id: str = "") -> None:
    """Tell every application that signs this user in. Never breaks what it is called from."""
    if user_id is None:
        return
    if _gathered.notes is not None:
        _gathered.notes.append((kind, user_id, username, course_id))
        return
    try:
        with transaction.atomic():
            put([(kind, user_id, username, course_id)])
    except DatabaseError:
        log.exception("A change of %s for %s was not noted; a sweep will find it.", kind, username)


@contextmanager
def gathering(asked: Asked | None = None) -> Iterator[None]:
    """Within it notes are gathered, and put in a few queries at its end, each once."""
    if _gathered.notes is not None:
        yield
        return
    _gathered.notes = []
    try:
        yield
        notes = list(dict.fromkeys(_gathered.notes))
    finally:
        _gathered.notes = None
    put(notes, asked)


def put(notes: Iterable[Note], asked: Asked | None = None) -> None:
    """Add the messages for notes of (kind, user id, username, course id), and wake the sender when
    they are committed."""
    notes = list(notes)
    applications = applications_by_user({user_id for _, user_id, _, _ in notes})
    messages = [
        _message(found, application, asked)
        for found in notes
        for application in applications.get(found[1], [])
        if found[0] != EventType.SIGNED_OUT or address(found[0], application)
    ]
    Message.objects.bulk_create(messages)
    if any(message.next_attempt_at for message in messages):
        transaction.on_commit(wake_sender)


def _message(found: Note, application: ConnectedApplication, asked: Asked | None) -> Message:
    kind, _, username, course_id = found
    is_sent = address(kind, application) and not (asked and asked.covers(application, found))
    return Message(
        application=application,
        type=kind.value,
        username=username,
        course_id=course_id,
        next_attempt_at=timezone.now() if is_sent else None,
    )


def backlog(application: ConnectedApplication) -> dict[str, float]:
    """How many messages this application has yet to get, ``_COUNTED`` at most, and for how many
    seconds the oldest of them has waited."""
    waiting = Message.objects.filter(application=application, next_attempt_at__isnull=False)
    found = waiting[:_COUNTED].aggregate(waiting=Count("pk"), oldest=Min("created"))
    oldest = found["oldest"]
    seconds = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    return {"waiting": found["waiting"], "oldest_seconds": max(0.0, seconds)}


def address(kind: str, application: Any) -> str:
    """Where messages of this kind go; '' for nowhere."""
    if not application.webhook_secret:
        return ""
    if kind == EventType.SIGNED_OUT:
        return application.backchannel_logout_url
    return application.webhook_url
