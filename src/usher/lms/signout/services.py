"""Ending the sessions of a learner who signed out of the application."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module

from django.conf import settings
from django.utils import timezone
from social_django.models import UserSocialAuth

from usher.lms.signout.models import LearnerSession, UsedToken
from usher.lms.signout.tokens import TOLERANCE_SECONDS


def end_sessions(username: str, backend: str) -> int:
    """End every session here of the learner whom ``backend`` calls ``username``; how many.

    The application ended its own already and is not told again.
    """
    link = UserSocialAuth.get_social_auth(backend, username)
    if link is None:
        return 0
    sessions = list(LearnerSession.objects.filter(user_id=link.user_id))
    store = import_module(settings.SESSION_ENGINE).SessionStore
    for session in sessions:
        store(session.session_key).delete()
    LearnerSession.objects.filter(pk__in=[session.pk for session in sessions]).delete()
    return len(sessions)


def prune() -> int:
    """Forget sessions that have ended by their age, and token ids too old to be replayed."""
    now = timezone.now()
    ended = now - timedelta(seconds=settings.SESSION_COOKIE_AGE)
    replayable = now - timedelta(seconds=3 * TOLERANCE_SECONDS)
    return (
        LearnerSession.objects.filter(created__lt=ended).delete()[0]
        + UsedToken.objects.filter(at__lt=replayable).delete()[0]
    )
