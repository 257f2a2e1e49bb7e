"""The application's report to doctor, in the shape of ``contract.application_report``.

Fast on large tables, because only due and refused rows are counted, by their indexes.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, cast

from django.conf import settings as django_settings
from django.db.models import Count, Exists, Max, Min, OuterRef
from django.utils import timezone
from oauth2_provider.models import get_application_model
from oauth2_provider.settings import oauth2_settings

import usher
from usher.application import conf
from usher.application.accounts.models import LmsAccount, UsernameReservation
from usher.application.enrollments.models import Enrollment
from usher.application.health import learners, setup
from usher.application.health.configuration import settings_in_use
from usher.application.lms.options import options
from usher.application.runs.models import CourseRun, problem_of_key
from usher.contract.application_report import (
    NO_CELERY,
    VERSION,
    ApplicationReport,
    Client,
    Engine,
    EnrollmentSample,
    RowError,
    Rows,
)
from usher.contract.environment import SECRET_KEYS
from usher.contract.fingerprints import fingerprint
from usher.engine import heartbeat
from usher.engine.models import IN_SYNC
from usher.engine.notify import connection_error
from usher.engine.registry import all_kinds
from usher.engine.work import Work
from usher.engine.work import due as due_work

#: How many of the newest learners and of the newest course runs are searched, how many enrollments
#: the report has, and how many names each of its lists has.
_MAX_SEARCHED = 10_000
_MAX_ENROLLMENTS = 25
_MAX_NAMED = 10
#: The most OAuth clients in the report, and the most error codes of one kind.
_MAX_CLIENTS = 100
_MAX_ERROR_CODES = 20
#: The code of rows that wait because the circuit to the LMS is open.
_CIRCUIT_OPEN = "circuit-open"


def report() -> ApplicationReport:
    facts: Any = _facts()
    return cast(ApplicationReport, facts)


def _facts() -> dict[str, Any]:
    settings_read, problems = conf.read(django_settings)
    rows = {name: _work_facts(kind.model) for name, kind in all_kinds().items()}
    rows["run"]["missing"] = _missing_runs()
    return {
        "version": VERSION,
        "time": timezone.now().isoformat(),
        "usher": usher.__version__,
        "site_base_url": settings_read.site_base_url,
        "session_cookie": django_settings.SESSION_COOKIE_NAME,
        "settings": {
            key: value for key, value in settings_in_use().items() if key not in SECRET_KEYS
        },
        "fingerprints": {
            key: fingerprint(value)
            for key, value in settings_in_use().items()
            if key in SECRET_KEYS
        },
        "problems": problems,
        "clients": [_client(row) for row in get_application_model().objects.all()[:_MAX_CLIENTS]],
        "scopes": sorted(oauth2_settings.SCOPES),
        "rows": rows,
        "engine": _engine(rows),
        "enrollments": _enrollments(),
        "malformed_runs": _malformed_runs(),
        "name_clashes": _name_clashes(),
        "adopts_enrollments": options().adopt_enrollments,
        **setup.facts(),
        **learners.facts(),
    }


def _client(row: Any) -> Client:
    policy = getattr(row, "usher_policy", None)
    # A hashed secret begins with the hasher's name and "$".
    hasher = row.client_secret.split("$")[0] if "$" in row.client_secret else ""
    return {
        "name": row.name,
        "client_id": row.client_id,
        "redirect_uris": row.redirect_uris.split(),
        "client_type": row.client_type,
        "grant_type": row.authorization_grant_type,
        "skip_authorization": row.skip_authorization,
        "secret_hasher": hasher,
        "pkce_required": policy is None or policy.pkce_required,
    }


def _work_facts(model: Any) -> Rows:
    """How many rows of one kind are due and refused, how late the oldest is, and their errors."""
    now = timezone.now()
    due_rows = due_work(model.work_kind, now)
    due = due_rows.aggregate(count=Count("pk"), oldest=Min("due_at"))
    oldest = due["oldest"]
    return {
        "due": due["count"],
        "overdue_seconds": max(0.0, (now - oldest).total_seconds()) if oldest else 0.0,
        "refused": Work.objects.filter(kind=model.work_kind, refused_at__isnull=False).count(),
        "errors": _errors(model),
    }


def _errors(model: Any) -> list[RowError]:
    """The errors of one kind's rows, by class and code. The newest row of each is the sample."""
    groups = (
        Work.objects.filter(kind=model.work_kind, error_code__gt="")
        .values("error_class", "error_code")
        .annotate(
            count=Count("pk"),
            refused=Count("refused_at"),
            attempts=Max("attempts", default=0),
            newest=Max("object_id"),
        )
        .order_by("-count")[:_MAX_ERROR_CODES]
    )
    related = [name for name in ("user", "run") if hasattr(model, name)]
    newest = model.objects.filter(pk__in=[group["newest"] for group in groups]).select_related(
        "work", *related
    )
    samples = {row.pk: row for row in newest}
    return [_error(group, samples.get(group["newest"])) for group in groups]


# group: the numbers of ``_errors``. sample: one of the rows; None if it was deleted.
def _error(group: Any, sample: Any) -> RowError:
    return {
        "error_class": group["error_class"],
        "error_code": group["error_code"],
        "count": group["count"],
        "refused": group["refused"],
        "attempts": group["attempts"],
        "message": sample.error_message if sample else "",
        "sample": str(sample) if sample else "",
    }


def _engine(rows: dict[str, Rows]) -> Engine:
    """The state of the workers. The circuit breaker counts as open if a row waits for it. rows: by
    the name of the kind."""
    circuit_errors = []
    for kind in rows.values():
        circuit_errors += [e for e in kind["errors"] if e["error_code"] == _CIRCUIT_OPEN]
    beat = heartbeat.newest_beat()
    return {
        "overdue_seconds": max((kind["overdue_seconds"] for kind in rows.values()), default=0.0),
        "broker_error": _broker_error(),
        "breaker": "open" if circuit_errors else "closed",
        "breaker_reason": circuit_errors[0]["message"] if circuit_errors else "",
        "worker_seen_seconds": beat.seconds_ago if beat else None,
        "worker_late_seconds": beat.late_after if beat else 0,
    }


def _broker_error() -> str:
    """The broker's address and error, or ``NO_CELERY``; '' if the broker answers, or if the project
    has none."""
    url = setup.broker_url()
    if not url:
        return ""
    try:
        from kombu import Connection
    except ModuleNotFoundError:
        return NO_CELERY
    try:
        with Connection(url, connect_timeout=1) as connection:
            connection.ensure_connection(max_retries=1, timeout=1)
    except Exception as error:  # noqa: BLE001 - every transport has errors of its own
        return connection_error(url, error)
    return ""


def _missing_runs() -> list[str]:
    missing = CourseRun.objects.filter(missing_since__isnull=False, live=True)
    return list(missing.order_by("course_key").values_list("course_key", flat=True)[:_MAX_NAMED])


def _malformed_runs() -> list[str]:
    keys = CourseRun.objects.order_by("-pk").values_list("course_key", flat=True)[:_MAX_SEARCHED]
    return list(islice((key for key in keys if problem_of_key(key)), _MAX_NAMED))


def _name_clashes() -> list[str]:
    """LMS usernames, of the newest accounts, that are or were reserved for another learner."""
    newest = LmsAccount.objects.order_by("-pk").values("pk")[:_MAX_SEARCHED]
    reservations_of_others = UsernameReservation.objects.filter(
        username__iexact=OuterRef("username"),
    ).exclude(user_id=OuterRef("user_id"))
    clashing = LmsAccount.objects.filter(Exists(reservations_of_others), pk__in=newest)
    return list(clashing.values_list("username", flat=True)[:_MAX_NAMED])


def _enrollments() -> list[EnrollmentSample]:
    """The newest enrollments that are in sync; the LMS must have them."""
    settled = Enrollment.objects.filter(IN_SYNC, work__due_at__isnull=True)
    rows = settled.select_related("run", "user__lms_account").order_by("-pk")[:_MAX_ENROLLMENTS]
    return [
        {
            "username": row.user.lms_account.username,
            "course_key": row.run.course_key,
            "mode": row.mode,
            "is_active": row.is_active,
        }
        for row in rows
        if hasattr(row.user, "lms_account")
    ]
