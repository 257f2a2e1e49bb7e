"""Putting messages into the outbox, inside the transaction of what they tell about."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, transaction
from django.utils import timezone

from usher.contract.events import EventType
from usher.lms.connections.services import applications_by_user
from usher.lms.events.models import Message
from usher.lms.events.wake import wake_sender

log = logging.getLogger(__name__)


class _Gathered(threading.local):
    """Notes of this thread that wait for the end of ``gathering``; None outside of it."""

    notes: list[tuple[EventType, int, str, str]] | None = None


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
def gathering() -> Iterator[None]:
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
    put(notes)


def put(notes: Iterable[tuple[EventType, int, str, str]]) -> None:
    """Add the messages for notes of (kind, user id, username, course id), and wake the sender when
    they are committed."""
    notes = list(notes)
    applications = applications_by_user({user_id for _, user_id, _, _ in notes})
    now = timezone.now()
    messages = [
        Message(
            application=application,
            type=kind.value,
            username=username,
            course_id=course_id,
            next_attempt_at=now if address(kind, application) else None,
        )
        for kind, user_id, username, course_id in notes
        for application in applications.get(user_id, [])
        if kind != EventType.SIGNED_OUT or address(kind, application)
    ]
    Message.objects.bulk_create(messages)
    if any(message.next_attempt_at for message in messages):
        transaction.on_commit(wake_sender)


def address(kind: str, application: Any) -> str:
    """Where messages of this kind go; '' for nowhere."""
    if not application.webhook_secret:
        return ""
    if kind == EventType.SIGNED_OUT:
        return application.backchannel_logout_url
    return application.webhook_url
