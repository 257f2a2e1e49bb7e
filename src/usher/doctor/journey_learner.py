# Read on standard input by the application's `manage.py shell`, with STEP in front:
# makes a throw-away learner with a session, their LMS account, or removes them. Prints JSON.
import json
import secrets
import sys
import time
from importlib import import_module

from django.apps import apps
from django.conf import settings
from django.contrib import auth
from django.db import transaction

PATIENCE_SECONDS = 30


def _make(username):
    model = auth.get_user_model()
    names = {field.name for field in model._meta.get_fields()}
    values = {
        model.USERNAME_FIELD: username,
        "username": username,
        "email": f"{username}@learners.example",
        "name": "Doctor's Learner",
        "is_active": True,
    }
    if model.USERNAME_FIELD == "email":
        values["email"] = f"{username}@learners.example"
    user = model(**{name: value for name, value in values.items() if name in names})
    user.set_password(secrets.token_urlsafe(32))
    user.save()
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[auth.SESSION_KEY] = user._meta.pk.value_to_string(user)
    store[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.set_expiry(600)
    store.create()
    return {"cookie": settings.SESSION_COOKIE_NAME, "session": store.session_key}


def _account(username):
    """By the application's engine; None where the application has none."""
    if not apps.is_installed("usher.application"):
        return {"ready": None, "error": ""}
    from usher.application.accounts.services import ensure_account

    user = auth.get_user_model().objects.get(email=f"{username}@learners.example")
    account = ensure_account(user, reconcile_now=True)
    return {"ready": account.is_ready, "error": account.error_message}


def _delete(user, late):
    """Once no worker is at it: what one has sent could reach the LMS after all was removed."""
    with transaction.atomic():
        if apps.is_installed("usher.application") and not late:
            from usher.application.accounts.services import is_worked_on

            if is_worked_on(user):
                return False
        user.delete()
    return True


def _remove(username):
    found = auth.get_user_model().objects.filter(email=f"{username}@learners.example")
    count = found.count()
    for user in found:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _delete(user, late=time.monotonic() > deadline):
            time.sleep(0.1)
    return {"removed": count}


ACTION, USERNAME = globals()["STEP"]
STEPS = {"make": _make, "account": _account, "remove": _remove}
sys.stdout.write(json.dumps(STEPS[ACTION](USERNAME)))
