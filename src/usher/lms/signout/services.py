"""Ends the LMS sessions of a learner who signed out of the application."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib import import_module
from secrets import token_hex
from typing import Any

from django.conf import settings
from django.utils import timezone

from usher.lms.accounts import lookup
from usher.lms.events.sender import delete_in_portions
from usher.lms.signout.models import LearnerSession, UsedToken
from usher.lms.signout.tokens import TOKEN_ID_SECONDS


def end_sessions(username: str, backend: str) -> int:
    """End all LMS sessions of the learner with this username at ``backend``; return how many: 0 for
    a learner without a link.

    The application has already ended its own session and is not notified.
    """
    link = lookup.find_link(backend, username)
    if link is None:
        return 0
    return _end_recorded_sessions(link.user_id)


def end_all_sessions(user: Any) -> None:
    """End every recorded session of a user, and make ``EndedSessions`` ignore the JWT cookies of
    all sessions, recorded or not."""
    _end_recorded_sessions(user.pk)
    # A row without a session. Because of it, ``was_ended_since`` covers unrecorded sessions too.
    key_of_no_session = f"none-{token_hex(16)}"
    LearnerSession.objects.create(session_key=key_of_no_session, user=user, ended=timezone.now())


def _end_recorded_sessions(user_id: int) -> int:
    """End the recorded sessions of a user; return how many."""
    sessions = list(LearnerSession.objects.filter(user_id=user_id, ended=None))
    session_store = import_module(settings.SESSION_ENGINE).SessionStore
    for session in sessions:
        session_store(session.session_key).delete()
    rows = LearnerSession.objects.filter(pk__in=[session.pk for session in sessions])
    return rows.update(ended=timezone.now())


def was_ended_since(username: str, issued: float) -> bool:
    """Whether a session of this learner was ended at or after ``issued`` (Unix seconds)."""
    moment = datetime.fromtimestamp(issued, tz=UTC)
    return LearnerSession.objects.filter(user__username=username, ended__gte=moment).exists()


def prune() -> int:
    """Delete rows of expired sessions, and of token ids too old to be replayed; return how many."""
    now = timezone.now()
    oldest_session = now - timedelta(seconds=settings.SESSION_COOKIE_AGE)
    oldest_replayable_token = now - timedelta(seconds=TOKEN_ID_SECONDS)
    return delete_in_portions(
        LearnerSession.objects.filter(created__lt=oldest_session)
    ) + delete_in_portions(UsedToken.objects.filter(at__lt=oldest_replayable_token))
