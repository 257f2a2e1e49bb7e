# The application's `manage.py shell` reads this file on standard input. It prints the application's
# report as JSON. If the application is built on Usher, Usher makes the report; otherwise it is made
# from settings, the OAuth toolkit's records, and the tables of MITx Online and MIT xPro. Facts that
# these sources lack are left out.
import json
import os
import re
import sys
from datetime import timedelta

import django
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

#: The most rows that a list in the report names.
MAX_NAMED = 25
#: The applications' own limit of attempts, after which an enrollment is not tried again.
MAX_ATTEMPTS = 5
#: A course key of today's form, or of the older form ``ORG/NUMBER/RUN``.
COURSE_KEY = re.compile(
    r"course-v1:[\w\-~.:]+\+[\w\-~.:]+\+[\w\-~.:]+|[\w\-~.:]+/[\w\-~.:]+/[\w\-~.:]+"
)
#: The age up to which the applications' own tasks ignore learners and enrollments.
IGNORED_AGE = timedelta(minutes=5)
#: Settings of the connection. The report says which of them have a value.
REPORTED_SETTINGS = (
    "OPENEDX_API_BASE_URL",
    "OPENEDX_BASE_REDIRECT_URL",
    "OPENEDX_API_CLIENT_ID",
    "OPENEDX_API_CLIENT_SECRET",
    "OPENEDX_SERVICE_WORKER_API_TOKEN",
    "OPENEDX_OAUTH_PROVIDER",
    "OPENEDX_SOCIAL_LOGIN_PATH",
    "LOGOUT_REDIRECT_URL",
)
#: A setting whose name has one of these words is a secret, which the report leaves out.
WORDS_OF_SECRETS = ("SECRET", "TOKEN", "KEY")

if not apps.ready:
    django.setup()  # raises the error in the settings that `manage.py shell` ignored


def _model(label):
    """The model, or None if the application has none with this label."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        return None


def _has_fields(model, *names):
    fields = {field.name for field in model._meta.get_fields()} if model else set()
    return model is not None and set(names) <= fields


# The tables of MITx Online, else those of MIT xPro; None in another application.
ACCOUNT = _model("openedx.OpenEdxUser") or _model("courseware.CoursewareUser")
TOKEN = _model("openedx.OpenEdxApiAuth") or _model("courseware.OpenEdxApiAuth")
ENROLLMENT = _model("courses.CourseRunEnrollment")
RUN = _model("courses.CourseRun")


def _client(row):
    """An OAuth client in the form of Usher's report."""
    from oauth2_provider.settings import oauth2_settings

    required = oauth2_settings.PKCE_REQUIRED  # a boolean, or a function of the client id
    return {
        "name": row.name,
        "client_id": row.client_id,
        "redirect_uris": row.redirect_uris.split(),
        "client_type": row.client_type,
        "grant_type": row.authorization_grant_type,
        "skip_authorization": row.skip_authorization,
        # A hashed secret has the form ``hasher$…``.
        "secret_hasher": row.client_secret.split("$")[0] if "$" in row.client_secret else "",
        "pkce_required": required(row.client_id) if callable(required) else bool(required),
    }


def _report_without_usher():
    """The report of an application that is not built on Usher. Raises ImproperlyConfigured without
    the OAuth toolkit."""
    if not apps.is_installed("oauth2_provider"):
        raise ImproperlyConfigured(
            f"INSTALLED_APPS of {os.environ.get('DJANGO_SETTINGS_MODULE')} has neither "
            "usher.application nor oauth2_provider. If your settings are in another module, set "
            "the environment variable DJANGO_SETTINGS_MODULE to it."
        )
    from oauth2_provider.models import get_application_model
    from oauth2_provider.settings import oauth2_settings

    report = {
        "version": 1,
        "site_base_url": str(getattr(settings, "SITE_BASE_URL", "")),
        "settings": _connection_settings(),
        "read": [name for name in REPORTED_SETTINGS if getattr(settings, name, None)],
        "environment": [name for name in REPORTED_SETTINGS if os.environ.get(name)],
        "clients": [_client(row) for row in get_application_model().objects.all()],
        "scopes": list(oauth2_settings.SCOPES),
        "redirect_schemes": list(oauth2_settings.ALLOWED_REDIRECT_URI_SCHEMES),
        "session_cookie": settings.SESSION_COOKIE_NAME,
        "signs_in_at_gateway": "gateway" in str(settings.LOGIN_URL),
    }
    _add_rows(report)
    return report


def _connection_settings():
    """The settings of the connection that have a value, without secrets."""
    names = [name for name in dir(settings) if name.startswith("OPENEDX_")]
    values = {}
    for name in [*names, "LOGOUT_REDIRECT_URL"]:
        is_secret = any(word in name for word in WORDS_OF_SECRETS)
        if not is_secret and getattr(settings, name, None):
            values[name] = str(getattr(settings, name))
    return values


def _add_rows(report):
    """Adds to the report what the application's tables show. Leaves out tables that it does not
    have, and those without the fields that are read."""
    rows = {}
    if _has_fields(ACCOUNT, "user", "has_been_synced"):
        rows["account"] = _accounts()
        report["unfinished"] = _learners_without_username()
    if _has_fields(TOKEN, "user", "access_token"):
        rows["token"] = {"due": _learners_without(TOKEN).count(), "errors": []}
    if _has_fields(ENROLLMENT, "user", "run", "active", "edx_enrolled"):
        rows["enrollment"] = _enrollments()
        report["enrollments"] = _settled_enrollments()
        report["learner_runs"] = _learner_runs(report["enrollments"])
    if _has_fields(RUN, "courseware_id"):
        report["malformed_runs"] = _malformed_course_keys()
    if rows:
        report["rows"] = rows


def _learners():
    """The learners for whom the application's own tasks create accounts."""
    model = get_user_model()
    users = model._base_manager.filter(is_active=True, last_login__isnull=False)
    for name in ("created_on", "date_joined"):
        if _has_fields(model, name):
            return users.filter(**{f"{name}__lt": timezone.now() - IGNORED_AGE})
    return users


def _learners_without(model):
    """Learners who have no row of this model."""
    return _learners().filter(~Exists(model._base_manager.filter(user=OuterRef("pk"))))


def _accounts():
    """Learners without an LMS account: due ones, and those whose account has a sync error."""
    synced = ACCOUNT._base_manager.filter(user=OuterRef("pk"), has_been_synced=True)
    due = _learners().filter(~Exists(synced))
    errors = []
    if _has_fields(ACCOUNT, "has_sync_error", "sync_error_data"):
        broken = ACCOUNT._base_manager.filter(has_sync_error=True, has_been_synced=False)
        due = due.filter(~Exists(broken.filter(user=OuterRef("pk"))))
        sample = broken.select_related("user").order_by("-pk").first()
        if sample:
            message = json.dumps(sample.sync_error_data, default=str)[:2000]
            errors = [_error("has-sync-error", broken.count(), message, sample=sample.user.email)]
    return {
        "due": due.count(),
        "refused": sum(error["count"] for error in errors),
        "errors": errors,
    }


def _error(code, count, message, *, sample):
    """An error in the form of Usher's report. sample: names one of the ``count`` rows."""
    return {
        "error_class": "rejected",
        "error_code": code,
        "count": count,
        "refused": count,
        "attempts": 0,
        "message": message,
        "sample": sample,
    }


def _active_enrollments():
    """Active enrollments, without those that were refunded or deferred."""
    enrollments = ENROLLMENT._base_manager.filter(active=True)
    if _has_fields(ENROLLMENT, "change_status"):
        enrollments = enrollments.filter(Q(change_status__isnull=True) | Q(change_status=""))
    return enrollments.select_related("user", "run")


def _enrollments():
    """Active enrollments that the LMS does not have: due ones, and those that the application has
    given up."""
    missing = _active_enrollments().filter(edx_enrolled=False)
    given_up = missing.none()
    if _has_fields(ENROLLMENT, "edx_enrollment_retry_count"):
        given_up = missing.filter(edx_enrollment_retry_count__gte=MAX_ATTEMPTS)
        missing = missing.filter(edx_enrollment_retry_count__lt=MAX_ATTEMPTS)
    errors = []
    if sample := given_up.order_by("-pk").first():
        sample_name = f"{sample.user.email} in {sample.run.courseware_id}"
        message = f"tried {MAX_ATTEMPTS} times"
        errors = [_error("given-up", given_up.count(), message, sample=sample_name)]
    return {"due": missing.count(), "refused": given_up.count(), "errors": errors}


def _settled_enrollments():
    """The newest enrollments that the application has recorded as made in the LMS, without those of
    learners who have no LMS username. mode: '' if the application does not store it."""
    settled = []
    for row in _active_enrollments().filter(edx_enrolled=True).order_by("-pk")[:MAX_NAMED]:
        username = _lms_username(row.user)
        if username:
            mode = getattr(row, "enrollment_mode", "") or ""
            settled.append(
                {
                    "username": username,
                    "course_key": row.run.courseware_id,
                    "mode": mode,
                    "is_active": True,
                }
            )
    return settled


def _lms_username(user):
    """The user's LMS username; '' if there is none yet."""
    if not _has_fields(ACCOUNT, "edx_username"):
        return user.get_username()
    row = ACCOUNT._base_manager.filter(user=user).order_by("-pk").first()
    return (row.edx_username or "") if row else ""


def _learner_runs(reported_enrollments):
    """The learners of these enrollments: LMS username → course keys of all the learner's
    enrollments, of any state."""
    model = get_user_model()
    runs_by_learner = {}
    for name in sorted({row["username"] for row in reported_enrollments}):
        if _has_fields(ACCOUNT, "edx_username"):
            owners = ACCOUNT._base_manager.filter(edx_username=name).values("user")
        else:
            owners = model._base_manager.filter(**{model.USERNAME_FIELD: name}).values("pk")
        rows = ENROLLMENT._base_manager.filter(user__in=owners)
        runs_by_learner[name] = sorted(set(rows.values_list("run__courseware_id", flat=True)))
    return runs_by_learner


def _learners_without_username():
    """Learners who signed up and have no LMS username yet: ``users/me`` answers null."""
    if not _has_fields(ACCOUNT, "edx_username"):
        return {"count": 0, "sample": ""}
    accounts_with_username = ACCOUNT._base_manager.filter(user=OuterRef("pk")).exclude(
        Q(edx_username__isnull=True) | Q(edx_username="")
    )
    rows = get_user_model()._base_manager.filter(is_active=True, last_login__isnull=False)
    rows = rows.filter(~Exists(accounts_with_username))
    sample = rows.order_by("-pk").first()
    return {"count": rows.count(), "sample": sample.email if sample else ""}


def _malformed_course_keys():
    """The newest malformed course keys, at most MAX_NAMED; only the newest runs are examined.
    edx-opaque-keys is not used, since not every application has it."""
    keys = RUN._base_manager.order_by("-pk").values_list("courseware_id", flat=True)[:10_000]
    return [str(key) for key in keys if not COURSE_KEY.fullmatch(key or "")][:MAX_NAMED]


def _report():
    if apps.is_installed("usher.application"):
        from usher.application.health.facts import report

        return report()
    return _report_without_usher()


sys.stdout.write(json.dumps(_report(), default=str))
