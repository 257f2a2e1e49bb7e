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
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.models import Q

#: Username of the learner that ``configure_instance`` creates.
LEARNER = "testlearner"
#: The environment variable with the learner's password.
PASSWORD = "USHER_TEST_LEARNER_PASSWORD"  # noqa: S105 - a name
#: Lifetime of the session that is created for the check of the sign-in.
_SESSION_SECONDS = 600


def _check(expected):
    """Checks the project and its settings. expected: name → value in the environment.

    Returns a dict. ``problem``: what must be corrected before ``usher dev`` can continue, or "".
    If Usher's apps are installed, it also has ``warnings``; ``unread``: the names of ``expected``
    settings that the project does not take from the environment; ``celery``: the result of
    ``_celery_package``.
    """
    if not apps.is_installed("usher.application"):
        return {
            "problem": "Usher's apps are not in INSTALLED_APPS of "
            f"{os.environ['DJANGO_SETTINGS_MODULE']}. Add `from usher.application import defaults` "
            "and `defaults.apply(globals())` at the end of this module, after all that you set "
            "yourself. If your settings are in another module, set the environment variable "
            "DJANGO_SETTINGS_MODULE to it."
        }
    messages = [message for message in run_checks() if not message.is_silenced()]
    errors, warnings = [], []
    for message in messages:
        if message.is_serious():
            errors.append(_text_of_message(message))
        elif str(message.id).startswith("usher."):
            warnings.append(_text_of_message(message))
    celery = _celery_package()
    # The first problem that is found; each of these functions returns "" for none.
    problem = "\n".join(errors) or _problem_of_migrations()
    if celery:
        problem = problem or _problem_of_broker()
    problem = problem or _problem_of_database()
    unread = [key for key, value in expected.items() if str(getattr(settings, key, "")) != value]
    return {"problem": problem, "warnings": warnings, "unread": unread, "celery": celery}


def _text_of_message(message):
    """The message and its hint in one paragraph; a command in the hint is a line of its own."""
    text = " ".join(f"{message.id}: {message.msg}".split())
    for line in (message.hint or "").split("\n"):
        text += ("\n" if line.strip().startswith("$ ") else " ") + line.strip()
    if message.id == "usher.E007":  # the host of SITE_BASE_URL is not among ALLOWED_HOSTS
        text += f" `usher dev` sets SITE_BASE_URL to {settings.SITE_BASE_URL}."
    return text.strip()


def _problem_of_broker():
    """An error message if Celery's broker does not answer, otherwise ""."""
    from usher.engine.notify import broker_error

    if error := broker_error():
        return (
            f"Celery's broker does not answer: {error} Start it; or remove CELERY_BROKER_URL, and "
            "`usher dev` runs `manage.py reconcile --watch` as the worker."
        )
    return ""


def _problem_of_database():
    """An error message if the database can't be used, otherwise "". Creates SQLite's file if it is
    missing."""
    from usher.application.management.output import describe_database_error

    try:
        connection.ensure_connection()
    except (DatabaseError, InterfaceError) as error:
        return describe_database_error(error)
    return ""


def _problem_of_migrations():
    """Instructions if the app of the user model has no migrations, else "". Without these
    migrations, ``migrate`` would fail after it has created the tables of other apps."""
    label = auth.get_user_model()._meta.app_label
    # The migrations themselves are looked for, because ``startapp`` creates an empty folder of
    # migrations, and Django does not count an app with this folder as unmigrated.
    migrations = MigrationLoader(connection=None, ignore_no_migrations=True).disk_migrations
    if any(app == label for app, _ in migrations):
        return ""
    return (
        f"The app {label}, which has your user model, has no migrations. "
        f"Run:\n$ python manage.py makemigrations {label}"
    )


def _celery_package():
    """The package for ``celery -A``; "" if the project has no broker."""
    from usher.engine.notify import broker_url

    return os.environ["DJANGO_SETTINGS_MODULE"].split(".")[0] if broker_url() else ""


def _prepare(client_id, refuse_accounts_of_another_lms, lms_accounts):
    """Creates the tables, the LMS's OAuth2 client and a learner who is enrolled in two course runs,
    unless they exist. The records of the learner become due, so that the worker compares them with
    the LMS. Sets the learner's password to the one in the environment, and links the learner to an
    LMS account of an earlier start (see ``_adopt``).

    client_id: of the LMS's OAuth2 client. refuse_accounts_of_another_lms: whether to create only
    the tables if the database has LMS accounts. With a new LMS, these belong to another LMS.
    lms_accounts: the accounts in the LMS of an earlier start, the result of
    ``cli.dev.lms_accounts``.

    Returns a dict. Its keys, among others:

    ``accounts_of_another_lms``: the number of refused accounts; the only key unless 0.
    ``changes``: for people. ``to_link``: the LMS username of the learner's account, if the LMS must
    still link it to the learner. ``unknown_emails``: the addresses of learners' LMS accounts that
    are not in the database. ``creation_error``: why the learner could not be created, or "".
    ``problem``: only if ``configure_instance`` failed, its error; then the only key besides
    ``accounts_of_another_lms``.
    """
    migrations = _migrate()
    from usher.application.models import LmsAccount

    earlier_accounts = LmsAccount.objects.filter(created_in_lms_at__isnull=False).count()
    if refuse_accounts_of_another_lms and earlier_accounts:
        return {"accounts_of_another_lms": earlier_accounts}
    earlier_counts = _count_records()
    try:
        is_changed, creation_error = _create_client_runs_and_learner(client_id)
    except CommandError as error:
        return {"accounts_of_another_lms": 0, "problem": str(error)}
    learner = _find_learner()
    changes = [_number_of(migrations, "migration") + " applied"] if migrations else []
    changes += _list_changes(earlier_counts, is_changed)
    if learner is not None and not learner.check_password(os.environ[PASSWORD]):
        learner.set_password(os.environ[PASSWORD])
        learner.save()
        changes.append("learner's password set")
    to_link = ""
    if learner is not None:
        if adopted := _adopt(learner, lms_accounts):
            changes.append(f"LMS account {adopted['username']} linked to the learner")
            to_link = "" if adopted["is_linked"] else adopted["username"]
        _make_records_due(learner)
    return {
        "accounts_of_another_lms": 0,
        "changes": changes,
        "to_link": to_link,
        "unknown_emails": _emails_of_unknown_accounts(lms_accounts),
        "creation_error": creation_error,
        "login": learner.get_username() if learner else "",
        "login_name": _login_name(),
    }


def _migrate():
    """Applies the migrations that are not applied yet. Returns their number."""
    executor = MigrationExecutor(connection)
    pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    call_command("migrate", verbosity=0)
    return pending


def _create_client_runs_and_learner(client_id):
    """Runs ``configure_instance``, and once more without a learner if the learner can't be created.

    Returns whether the command created the learner or changed the client, and why the learner could
    not be created ("" if it could). Raises CommandError.
    """
    from usher.application.management.instance import CantMakeUser

    arguments = ["none", "--no-input", "--json", "--dont-create-superuser"]
    arguments.append("--edx-oauth-client=" + client_id)
    creation_error, output = "", io.StringIO()
    try:
        call_command("configure_instance", *arguments, stdout=output)
    except CommandError as error:
        if not isinstance(error.__cause__, CantMakeUser):
            raise
        creation_error, output = str(error), io.StringIO()
        call_command("configure_instance", *arguments, "--dont-create-users", stdout=output)
    return json.loads(output.getvalue())["changed"], creation_error


def _login_name():
    """The name of the sign-in field above the password, such as ``e-mail address``."""
    from usher.application.user_model import signs_in_by_email

    model = auth.get_user_model()
    if signs_in_by_email(model):
        return "e-mail address"
    return str(model._meta.get_field(model.USERNAME_FIELD).verbose_name)


def _adopt(learner, lms_accounts):
    """Links the LMS account with the learner's address to the learner if the learner's own account
    is requested but not created: somebody may have deleted the earlier user or the database.
    Returns the linked account, or None."""
    from usher.application.accounts.services import adopt, reactivate
    from usher.application.adapter import adapter
    from usher.application.models import LmsAccount, UsernameReservation

    address = adapter().email(learner).casefold()
    row = LmsAccount.objects.filter(user=learner).first()
    lms_account = next(
        (account for account in lms_accounts if account["email"].casefold() == address), None
    )
    if lms_account is None or row is None or row.is_ready:
        return None
    with transaction.atomic():
        row.delete()
        # The reservation of the deleted user, who was this learner.
        reserved = UsernameReservation.objects.filter(username__iexact=lms_account["username"])
        reserved.filter(Q(user=None) | Q(user=learner)).delete()
        adopt(learner, lms_account["username"], lms_account["lms_user_id"])
        reactivate(learner)  # deleting a user deactivates their account
    return lms_account


def _emails_of_unknown_accounts(lms_accounts):
    """The e-mail addresses of learners' LMS accounts that are not in this database."""
    from usher.application.models import UsernameReservation

    names = {
        name.lower() for name in UsernameReservation.objects.values_list("username", flat=True)
    }
    return [
        account["email"]
        for account in lms_accounts
        if account["is_linked"] and account["username"].lower() not in names
    ]


def _count_records():
    """Kind of record that ``configure_instance`` creates → number of records."""
    from oauth2_provider.models import get_application_model

    from usher.application import conf
    from usher.application.management.instance import COURSES
    from usher.application.models import CourseRun

    learner, name = _find_learner(), conf.settings().oauth_app_name
    return {
        "client": get_application_model().objects.filter(name=name).count(),
        "run": CourseRun.objects.filter(course_key__in=COURSES).count(),
        "learner": int(learner is not None),
        "enrollment": learner.lms_enrollments.count() if learner else 0,
    }


def _list_changes(earlier_counts, is_changed):
    """The changes that ``configure_instance`` made, for people. earlier_counts: the result of
    ``_count_records`` before the command ran; is_changed: whether the command created the learner
    or changed the client."""
    created = {name: count - earlier_counts[name] for name, count in _count_records().items()}
    changes = []
    if created["client"]:
        changes.append("OAuth2 client created")
    elif is_changed and not created["learner"]:
        changes.append("OAuth2 client restored")
    if created["run"]:
        changes.append(_number_of(created["run"], "course run") + " created")
    if created["learner"]:
        changes.append("learner created")
    if created["enrollment"]:
        changes.append(_number_of(created["enrollment"], "enrollment") + " requested")
    return changes


def _number_of(number, name):
    """The number and the name, in the plural if needed: "2 enrollments" for 2 and "enrollment"."""
    return f"{number} {name}" + ("" if number == 1 else "s")


def _make_records_due(learner):
    """Makes the learner's records due, so that the worker compares them with the LMS."""
    from usher.application.models import Enrollment, LmsAccount
    from usher.engine.notify import notify_workers

    LmsAccount.objects.filter(user=learner).compare_again()
    Enrollment.objects.filter(user=learner).compare_again()
    notify_workers(learner.pk)


def _find_learner():
    """The test learner; None if the project has none yet."""
    from usher.application.management.instance import find_user

    return find_user(LEARNER)


def _report_state():
    """The state of the learner's account, token and enrollments in the two course runs.

    has_account, has_token: whether they are ready in the LMS. sign_in_problem: the reason why the
    learner can't sign in to the LMS; "" if the learner can. enrolled: keys of the runs in which the
    learner is enrolled in the LMS. waiting: keys of the runs whose enrollment is due or not in
    sync, refused ones too.
    problems: messages of the LMS's refusals. errors: messages of attempts that failed.
    """
    from usher.application.accounts import eligibility
    from usher.application.management.instance import COURSES

    learner = _find_learner()
    account = learner.lms_account
    rows = list(learner.lms_enrollments.filter(run__course_key__in=COURSES).select_related("run"))
    records = [account, learner.lms_token, *rows]
    code = eligibility.ineligibility_code(learner)
    sign_in_problem = eligibility.SENTENCES[code] if code else ""
    if account.due_at is None and account.observed_is_active is False:
        sign_in_problem = sign_in_problem or "The learner's LMS account is deactivated."
    return {
        "username": account.username,
        "has_account": account.is_ready and account.due_at is None,
        "has_token": learner.lms_token.is_settled,
        "sign_in_problem": sign_in_problem,
        "enrolled": [row.run.course_key for row in rows if row.is_settled and row.is_active],
        # Records in sync are due, too, until the worker has compared them with the LMS.
        "waiting": [row.run.course_key for row in rows if row.due_at or not row.is_settled],
        "problems": [row.error_message for row in records if row.refused_at and not row.due_at],
        "errors": [row.error_message for row in records if row.error_message and row.attempts],
    }


def _create_session():
    """Creates a session of the learner, like the one after the project's own sign-in. Returns the
    name and the value of its cookie."""
    learner = _find_learner()
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[auth.SESSION_KEY] = learner._meta.pk.value_to_string(learner)
    store[auth.BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[auth.HASH_SESSION_KEY] = learner.get_session_auth_hash()
    store.set_expiry(_SESSION_SECONDS)
    store.create()
    store.save()  # with signed_cookies, only this computes the key, which is the content
    return {"cookie": settings.SESSION_COOKIE_NAME, "session": store.session_key}


NAME, *ARGUMENTS = globals()["STEP"]
STEPS = {"check": _check, "prepare": _prepare, "state": _report_state, "session": _create_session}
sys.stdout.write("\nusher-dev: " + json.dumps(STEPS[NAME](*ARGUMENTS)) + "\n")
