# mypy: ignore-errors
"""Steps that run inside the project: ``manage.py shell`` reads this file on its standard input.

The caller puts a line ``STEP = [name, arguments…]`` in front. The result is printed as one JSON
object after the mark ``usher-dev:``, because the shell prints other lines too.
"""

import io
import json
import os
import sys
from importlib import import_module

from django.apps import apps
from django.conf import settings
from django.contrib import auth
from django.core.management import call_command
from django.core.management.base import CommandError, SystemCheckError
from django.db.migrations.loader import MigrationLoader

LEARNER = "testlearner"
PASSWORD = "USHER_TEST_LEARNER_PASSWORD"  # noqa: S105 - a name


def _check(wanted):
    """Whether the project has Usher's settings, and which of ``wanted`` (name → value) it does not
    take from the environment."""
    if not apps.is_installed("usher.application"):
        return {"problem": "Usher's apps are not in INSTALLED_APPS."}
    problem = ""
    try:
        call_command("check", stdout=io.StringIO(), stderr=io.StringIO())
    except SystemCheckError as error:
        problem = str(error)
    problem = problem or _without_migrations()
    unread = [key for key, value in wanted.items() if str(getattr(settings, key, "")) != value]
    return {"problem": problem, "unread": unread, "celery": _celery()}


def _without_migrations():
    """What to do if the app of the user model has no migrations, else "". Without them ``migrate``
    would fail after it has created other apps' tables."""
    label = auth.get_user_model()._meta.app_label
    if label not in MigrationLoader(None, ignore_no_migrations=True).unmigrated_apps:
        return ""
    return (
        f"The app {label}, which has your user model, has no migrations. "
        f"Run: python manage.py makemigrations {label}"
    )


def _celery():
    """The package for ``celery -A``; "" if the project has no broker."""
    from usher.engine.notify import broker_url

    return os.environ["DJANGO_SETTINGS_MODULE"].split(".")[0] if broker_url() else ""


def _prepare(client_id, is_new_lms):
    """Creates tables, the LMS's OAuth2 client and a learner, who is enrolled in two course runs.

    Changes nothing but the tables if the LMS is new and the database has accounts of another LMS;
    their number is returned as ``foreign``."""
    call_command("migrate", verbosity=0)
    from usher.application.models import LmsAccount

    foreign = LmsAccount.objects.filter(created_in_lms_at__isnull=False).count()
    if is_new_lms and foreign:
        return {"foreign": foreign}
    arguments = ["none", "--no-input", "--json", "--dont-create-superuser"]
    arguments.append("--edx-oauth-client=" + client_id)
    without = ""
    try:
        call_command("configure_instance", *arguments, stdout=io.StringIO())
    except CommandError as error:
        without = str(error)
        call_command("configure_instance", *arguments, "--dont-create-users", stdout=io.StringIO())
    learner = _learner()
    if learner is not None and not learner.check_password(os.environ[PASSWORD]):
        learner.set_password(os.environ[PASSWORD])
        learner.save()
    return {
        "foreign": 0,
        "without_learner": without,
        "login": learner.get_username() if learner else "",
    }


def _learner():
    from usher.application.management.instance import find_user

    return find_user(LEARNER)


def _state():
    """Which of the learner's records are in sync with the LMS."""
    learner = _learner()
    account = learner.lms_account
    rows = list(learner.lms_enrollments.select_related("run"))
    records = [account, learner.lms_token, *rows]
    return {
        "username": account.username,
        "account": account.is_ready,
        "settled": [row.run.course_key for row in rows if row.is_settled],
        "waiting": [row.run.course_key for row in rows if not row.is_settled],
        "problems": [row.error_message for row in records if row.parked_at],
        "errors": [row.error_message for row in records if row.error_message and row.attempts],
        "token": learner.lms_token.is_settled,
    }


def _session():
    """Creates a session of the learner, like the one after the project's own sign-in."""
    learner = _learner()
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[auth.SESSION_KEY] = learner._meta.pk.value_to_string(learner)
    store[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[auth.HASH_SESSION_KEY] = learner.get_session_auth_hash()
    store.set_expiry(600)
    store.create()
    return {"cookie": settings.SESSION_COOKIE_NAME, "session": store.session_key}


NAME, *ARGUMENTS = globals()["STEP"]
STEPS = {"check": _check, "prepare": _prepare, "state": _state, "session": _session}
sys.stdout.write("\nusher-dev: " + json.dumps(STEPS[NAME](*ARGUMENTS)) + "\n")
