"""Which sessions a person has, and how to end them from outside."""

from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from usher.application.provider.models import SignedInSession

#: In the session itself: the key by which it was noted here.
NOTED_AS = "_usher_noted_as"


def remember(request: HttpRequest, user: Any) -> None:
    """Note the session of a sign-in; forget those of this person that have run out by now."""
    session = getattr(request, "session", None)
    if session is None:
        return
    if session.session_key is None:
        session.save()
    session[NOTED_AS] = session.session_key
    SignedInSession.objects.update_or_create(
        session_key=session.session_key, defaults={"user": user, "started_at": timezone.now()}
    )
    old().filter(user=user).delete()


def follow(session: Any) -> None:
    """Note a session's new key when it has one; costs nothing for a session that is as it was."""
    if session is None or not session.modified:
        return
    noted = session.get(NOTED_AS)
    if not noted or not session.session_key or noted == session.session_key:
        return
    SignedInSession.objects.filter(session_key=noted).update(session_key=session.session_key)
    session[NOTED_AS] = session.session_key


def forget(session_key: str | None) -> None:
    if session_key:
        SignedInSession.objects.filter(session_key=session_key).delete()


def old() -> QuerySet[SignedInSession]:
    """Sessions that have ended by their age."""
    ran_out = timezone.now() - timedelta(seconds=settings.SESSION_COOKIE_AGE)
    return SignedInSession.objects.filter(started_at__lt=ran_out)


def end_all(user: Any, started_before: datetime) -> int:
    """End the sessions of a person that started before that moment; how many there were."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    rows = list(SignedInSession.objects.filter(user=user, started_at__lte=started_before))
    for row in rows:
        store(row.session_key).delete()
    SignedInSession.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)
