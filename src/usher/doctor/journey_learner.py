# The application's `manage.py shell` reads this file on standard input, after a line that defines
# STEP: one of the names in ACTIONS, and the test learner's username. It creates a test learner with
# a session, or the learner's LMS account, or removes the learner. It prints JSON.
import json
import secrets
import sys
import time
from importlib import import_module

from django.apps import apps
from django.conf import settings
from django.contrib import auth
from django.contrib.auth.backends import RemoteUserBackend
from django.db import transaction
from django.http import HttpRequest

#: Seconds to wait for a worker that has claimed the learner's records.
MAX_WAIT_SECONDS = 30
#: The learner is removed long before that.
SESSION_SECONDS = 600


def _make(username):
    """Creates the learner. Returns a session (``_create_session``)."""
    model = auth.get_user_model()
    field_names = {field.name for field in model._meta.get_fields()}
    values = {
        model.USERNAME_FIELD: username,
        "username": username,
        # Replaces the username if people sign in with their address.
        "email": f"{username}@learners.example",
        "name": "Doctor's Learner",
        "is_active": True,
    }
    user = model(**{name: value for name, value in values.items() if name in field_names})
    user.set_password(secrets.token_urlsafe(32))
    user.save()
    _store_lms_username(user, username)
    return _create_session(user)


def _sign_in_again(username):
    """Creates another session, because the first one ended with the sign-out."""
    return _create_session(auth.get_user_model().objects.get(email=f"{username}@learners.example"))


def _create_session(user):
    """Creates a session by Django's ``login``, whose signals an application may use to record the
    session's owner. Returns the names and values of its cookie and of the CSRF cookie."""
    request = HttpRequest()
    request.META.update(REMOTE_ADDR="127.0.0.1", HTTP_USER_AGENT="usher doctor")
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    auth.login(request, user, backend=_backend())
    request.session.set_expiry(SESSION_SECONDS)
    request.session.save()  # with sessions in cookies, this makes the key
    return {
        "cookie": settings.SESSION_COOKIE_NAME,
        "session": request.session.session_key,
        # Sign-in set the CSRF cookie in a browser; pages need not set it again.
        "csrf_cookie": settings.CSRF_COOKIE_NAME,
        "csrf": request.META.get("CSRF_COOKIE", ""),
    }


def _backend():
    """The authentication backend that checks passwords. An API gateway's backend would end a
    session whose requests have no headers of the gateway."""
    backends = [(path, auth.load_backend(path)) for path in settings.AUTHENTICATION_BACKENDS]
    without_gateway = [
        path for path, backend in backends if not isinstance(backend, RemoteUserBackend)
    ]
    model_backends = [path for path in without_gateway if path.endswith("ModelBackend")]
    return (model_backends or without_gateway or settings.AUTHENTICATION_BACKENDS)[0]


def _store_lms_username(user, username):
    """Stores the LMS username, if the application has a table for it, as MITx Online does."""
    if not apps.is_installed("openedx") or not hasattr(user, "openedx_users"):
        return
    rows = user.openedx_users
    row = rows.first() or rows.model(user=user)
    row.edx_username = row.desired_edx_username = username
    row.save()


def _create_account(username):
    """Creates the LMS account with Usher. Returns ``ready`` (whether the LMS has the account; None
    if the application is not built on Usher, and nothing was done) and ``error``."""
    if not apps.is_installed("usher.application"):
        return {"ready": None, "error": ""}
    from usher.application.accounts.services import ensure_account

    user = auth.get_user_model().objects.get(email=f"{username}@learners.example")
    account = ensure_account(user, reconcile_now=True)
    return {"ready": account.is_ready, "error": account.error_message}


def _delete(user, even_if_claimed):
    """Deletes the user, unless a worker has claimed the user's records: a request in progress could
    create the account again. Returns whether the user was deleted. even_if_claimed: deletes the
    user in any case."""
    with transaction.atomic():
        if apps.is_installed("usher.application") and not even_if_claimed:
            from usher.application.accounts.services import is_worked_on

            if is_worked_on(user):
                return False
        user.delete()
    return True


def _remove(username):
    """Deletes the learner. Returns ``removed``: how many users had the learner's address."""
    learners = auth.get_user_model().objects.filter(email=f"{username}@learners.example")
    count = learners.count()
    for user in learners:
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while not _delete(user, even_if_claimed=time.monotonic() > deadline):
            time.sleep(0.1)
    return {"removed": count}


ACTION, USERNAME = globals()["STEP"]
ACTIONS = {
    "make": _make,
    "session": _sign_in_again,
    "account": _create_account,
    "remove": _remove,
}
sys.stdout.write(json.dumps(ACTIONS[ACTION](USERNAME)))
