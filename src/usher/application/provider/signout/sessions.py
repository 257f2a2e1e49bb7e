"""Records the sessions of each user, and ends them."""

from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from usher.application.provider.models import SignedInSession

#: The name in a session's data of the session key that was recorded.
RECORDED_KEY = "_usher_noted_as"


def record_session(request: HttpRequest, user: Any) -> None:
    """Records the session of a sign-in, and deletes the records of this user's expired sessions."""
    session = getattr(request, "session", None)
    if session is None:
        return
    if session.session_key is None:
        session.save()  # gives the session its key
    session[RECORDED_KEY] = session.session_key
    SignedInSession.objects.update_or_create(
        session_key=session.session_key, defaults={"user": user, "started_at": timezone.now()}
    )
    expired_sessions().filter(user=user).delete()


def record_new_key(session: Any) -> None:
    """Records a session's new key, if it has changed; otherwise runs no query."""
    if session is None or not session.modified:
        return
    recorded_key = session.get(RECORDED_KEY)
    if not recorded_key or not session.session_key or recorded_key == session.session_key:
        return
    SignedInSession.objects.filter(session_key=recorded_key).update(session_key=session.session_key)
    session[RECORDED_KEY] = session.session_key


def delete_record(session_key: str | None) -> None:
    """Deletes the record of a session, and not the session itself."""
    if session_key:
        SignedInSession.objects.filter(session_key=session_key).delete()


def expired_sessions() -> QuerySet[SignedInSession]:
    """Records of sessions that have expired."""
    expired_before = timezone.now() - timedelta(seconds=settings.SESSION_COOKIE_AGE)
    return SignedInSession.objects.filter(started_at__lt=expired_before)


def end_all(user: Any, started_before: datetime) -> int:
    """Ends this user's sessions that started before ``started_before``. Returns how many sessions
    there were."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    rows = list(SignedInSession.objects.filter(user=user, started_at__lte=started_before))
    for row in rows:
        store(row.session_key).delete()
    SignedInSession.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)
