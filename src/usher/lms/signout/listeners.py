"""Records learners' sessions at sign-in, and notifies the applications of a sign-out."""

from __future__ import annotations

import logging
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import DatabaseError, transaction

from usher.contract.events import EventType
from usher.lms.connections.services import applications_by_user
from usher.lms.events import outbox, retention
from usher.lms.events.wake import wake_sender
from usher.lms.signout.models import LearnerSession

log = logging.getLogger(__name__)
UID = "usher.lms.signout"
#: Session variable: the session key under which the session was recorded.
RECORDED_KEY = "_usher_noted_as"


def connect() -> None:
    """Connect the receivers of Django's sign-in and sign-out signals."""
    user_logged_in.connect(on_signed_in, dispatch_uid=UID)
    user_logged_out.connect(on_signed_out, dispatch_uid=UID)


def on_signed_in(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Record the session, if an application signs this user in."""
    session = getattr(request, "session", None)
    if session is None:
        return
    try:
        with transaction.atomic():
            if not session.session_key:
                # Django has just emptied another user's session. Saving gives it a new key.
                session.save()
            key = session.session_key
            if key and applications_by_user([user.pk]):
                values = {"user": user, "ended": None}
                LearnerSession.objects.update_or_create(session_key=key, defaults=values)
                session[RECORDED_KEY] = key
        if retention.is_due():
            # The sender also deletes old sessions.
            wake_sender()
    except DatabaseError:
        log.exception(
            "The session of %s could not be recorded: a sign-out at the application won't end it.",
            user.get_username(),
        )


def update_session_key(session: Any) -> None:
    """Record the new key of a session whose key changed, e.g. after a change of password."""
    if session is None or not session.modified:
        return
    recorded_key, key = session.get(RECORDED_KEY), session.session_key
    if not recorded_key or not key or recorded_key == key:
        return
    LearnerSession.objects.filter(session_key=recorded_key).update(session_key=key)
    session[RECORDED_KEY] = key


def on_signed_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    """Delete the recorded session, and add the message that ends the application's sessions."""
    if user is None or user.pk is None:
        return
    key = getattr(getattr(request, "session", None), "session_key", None)
    try:
        with transaction.atomic():
            LearnerSession.objects.filter(session_key=key or "").delete()
            sign_out = outbox.Change(EventType.SIGNED_OUT, user.pk, user.get_username())
            outbox.add_messages([sign_out])
    except DatabaseError:
        log.exception(
            "The applications could not be notified of the sign-out of %s.", user.get_username()
        )
