# mypy: ignore-errors
"""Runs inside the application: ``manage.py shell`` reads this file on its standard input.

The caller defines ``PARAMS``, a dict with ``action`` (make or remove) and ``username``. The script
creates a learner with a session, like the one after a sign-in, or removes the learner. It works for
MITx Online, MIT xPro, applications built on Usher and others with Django's own users.
"""

import json
import secrets

ANSWER_MARK = "usher-answer: "
#: The domain of the learner's e-mail address.
DOMAIN = "learners.example"
#: The learner is removed long before that.
SESSION_SECONDS = 600


def make(params):
    """Creates the learner and a session. Returns the session cookie's name and value."""
    from django.conf import settings
    from django.db import transaction

    with transaction.atomic():
        user = _create_user(params["username"])
        _complete_profile(user)
    store = _create_session(user)
    return {"cookie": settings.SESSION_COOKIE_NAME, "session": store.session_key}


def _create_user(username):
    """Creates an active user, with those of the values for which the user model has fields."""
    from django.contrib import auth

    model = auth.get_user_model()
    field_names = {field.name for field in model._meta.get_fields()}
    values = {
        "username": username,
        "email": f"{username}@{DOMAIN}",
        "name": "Usher Testlearner",
        "first_name": "Usher",
        "last_name": "Testlearner",
        "global_id": "",
        "is_active": True,
    }
    user = model(**{name: value for name, value in values.items() if name in field_names})
    user.set_password(secrets.token_urlsafe(32))
    user.save()
    return user


def _complete_profile(user):
    """Stores the profile that MITx Online and MIT xPro require before they send the LMS a
    learner's details."""
    # Models and fields that an application doesn't have are left out.
    rows = (
        ("openedx", "OpenEdxUser", {"edx_username": user.username, "has_been_synced": True}),
        ("users", "LegalAddress", {"first_name": "Usher", "last_name": "T", "country": "US"}),
        ("users", "UserProfile", {"completed_onboarding": True}),
        ("users", "Profile", {"gender": "", "birth_year": 1990}),
    )
    from django.apps import apps

    for app, name, values in rows:
        try:
            model = apps.get_model(app, name)
        except LookupError:
            continue
        fields = {field.name for field in model._meta.get_fields()}
        if "user" not in fields:
            continue
        if "desired_edx_username" in fields:
            values = {**values, "desired_edx_username": user.username}
        present_fields = {key: value for key, value in values.items() if key in fields}
        model._base_manager.update_or_create(user=user, defaults=present_fields)


def _create_session(user):
    """Stores the same values as Django's ``login``. Returns the session."""
    from importlib import import_module

    from django.conf import settings
    from django.contrib import auth

    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[auth.SESSION_KEY] = user._meta.pk.value_to_string(user)
    store[auth.BACKEND_SESSION_KEY] = _path_of_password_backend()
    store[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.set_expiry(SESSION_SECONDS)
    store.create()
    # With signed_cookies the session key is the signed content, and only ``save`` computes it.
    store.save()
    return store


def _path_of_password_backend():
    """Returns the dotted path of the authentication backend that checks passwords; if there is
    none, that of the first backend. An API gateway's backend would end a session whose requests do
    not come through the gateway."""
    from django.conf import settings
    from django.contrib.auth.backends import ModelBackend, RemoteUserBackend
    from django.utils.module_loading import import_string

    for path in settings.AUTHENTICATION_BACKENDS:
        backend_class = import_string(path)
        if issubclass(backend_class, ModelBackend) and not issubclass(
            backend_class, RemoteUserBackend
        ):
            return path
    return settings.AUTHENTICATION_BACKENDS[0]


def remove(params):
    """Deletes the learner. Returns how many users with the learner's address were deleted."""
    from django.contrib import auth

    email = f"{params['username']}@{DOMAIN}"
    removed = 0
    for user in auth.get_user_model()._base_manager.filter(email=email):
        user.delete()
        removed += 1
    return {"removed": removed}


def main(params):
    try:
        answer = {"make": make, "remove": remove}[params["action"]](params)
    except Exception as error:  # noqa: BLE001 - the caller reports it, whatever it is
        answer = {"error": f"{type(error).__name__}: {error}"}
    print("\n" + ANSWER_MARK + json.dumps(answer, default=str), flush=True)  # noqa: T201


if "PARAMS" in globals():
    main(globals()["PARAMS"])
