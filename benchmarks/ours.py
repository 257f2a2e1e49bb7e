"""The functions of Usher that are measured, and those that create their data."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oauth2_provider.models import get_grant_model

from usher.application.accounts.models import LmsAccount, UsernameReservation
from usher.application.accounts.repair import repair as repair_learners
from usher.application.enrollments.models import Enrollment
from usher.application.lms_client import client
from usher.application.runs import services as runs_services
from usher.application.runs import sync
from usher.application.runs.models import CourseRun
from usher.application.tokens.models import LmsToken
from usher.application.tokens.provider import lms_application
from usher.engine.registry import all_kinds
from usher.engine.services import recheck, reconcile
from usher.engine.work import Work


def create_learners(username_pattern: str, first: int, end: int) -> int:
    """Creates users with the numbers from ``first`` to ``end - 1`` in their names; ``{}`` in the
    pattern stands for the number."""
    model = get_user_model()
    rows = []
    for number in range(first, end):
        name = username_pattern.format(number)
        rows.append(model(username=name, email=f"{name}@bench.example", name="Bench Learner"))
    return len(model.objects.bulk_create(rows, batch_size=1000))


def repair() -> dict[str, Any]:
    """Creates missing accounts and tokens. Returns the summary, with the number of all tokens."""
    return repair_learners().as_dict() | {
        "tokens": LmsToken.objects.exclude(access_token="").count()
    }


def create_accounts(username_pattern: str, first: int, end: int) -> int:
    """Creates settled accounts and tokens of these learners, who have accounts in the LMS."""
    usernames = [username_pattern.format(number) for number in range(first, end)]
    now = timezone.now()
    later = now + timedelta(days=10)
    settled = {"observed_generation": 1}
    accounts, reservations, tokens = [], [], []
    for user in get_user_model().objects.filter(username__in=usernames):
        reservations.append(UsernameReservation(username=user.username, user=user))
        account = LmsAccount(
            user=user, username=user.username, reserved_at=now, created_in_lms_at=now, **settled
        )
        accounts.append(account.without_work())
        token = LmsToken(user=user, access_token="x", expires_at=later, **settled)
        tokens.append(token.without_work())
    UsernameReservation.objects.bulk_create(reservations, batch_size=1000)
    LmsToken.objects.bulk_create(tokens, batch_size=1000)
    return len(LmsAccount.objects.bulk_create(accounts, batch_size=1000))


def create_runs(keys: list[str]) -> int:
    rows = [CourseRun(course_key=key).without_work() for key in keys]
    return len(CourseRun.objects.bulk_create(rows, ignore_conflicts=True))


def create_enrollments(username_pattern: str, first: int, end: int, enrollments_each: int) -> int:
    """Creates ``enrollments_each`` due enrollments for each learner."""
    users = get_user_model().objects.filter(
        username__in=[username_pattern.format(number) for number in range(first, end)]
    )
    runs = list(CourseRun.objects.order_by("pk")[:enrollments_each])
    rows = [Enrollment(user=user, run=run) for user in users for run in runs]
    return len(Enrollment.objects.bulk_create(rows, batch_size=1000))


def send_enrollments() -> dict[str, Any]:
    return reconcile(["enrollment"]).as_dict()


def forget_capabilities() -> None:
    """Makes the client request the LMS's batch capabilities again, after the LMS changed them."""
    from usher.client import batch

    batch._cached_capabilities.clear()


def sync_runs() -> dict[str, Any]:
    return runs_services.sync_runs().as_dict()


def fetch_runs() -> int:
    """Fetches and decodes the pages that the sync fetches, with the same client and the sync's
    highest concurrency, and discards them. Returns the number of runs."""
    lms = client()
    first = lms.runs_page(1)

    def count_runs_of_page(number: int) -> int:
        return len(lms.runs_page(number).results)

    further_pages = range(2, first.pages + 1)
    concurrency = min(sync.MAX_CONCURRENT, max(1, len(further_pages)))
    with ThreadPoolExecutor(concurrency) as pool:
        return len(first.results) + sum(pool.map(count_runs_of_page, further_pages))


# The provider


def create_codes(count: int, redirect_uri: str) -> list[str]:
    """Creates grants as the authorize view does, for the ``count`` newest learners. Returns their
    codes, which differ from those of earlier calls."""
    application = lms_application()
    model = get_grant_model()
    now = timezone.now()
    mark = hashlib.sha256(str(now).encode()).hexdigest()[:16]
    grants = []
    for user in get_user_model().objects.order_by("-pk")[:count]:
        grants.append(
            model(
                user=user,
                application=application,
                code=f"bench-{mark}-{user.pk}",
                expires=now + timedelta(minutes=30),
                redirect_uri=redirect_uri,
                scope="user:read",
            )
        )
    return [grant.code for grant in model.objects.bulk_create(grants)]


def create_sessions(count: int) -> list[str]:
    """Creates sessions in which the ``count`` newest learners are signed in. Returns their keys."""
    engine = import_module(django_settings.SESSION_ENGINE)
    keys = []
    for user in get_user_model().objects.order_by("-pk")[:count]:
        session = engine.SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = django_settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        keys.append(session.session_key)
    return keys


# Celery


def delete_due_work() -> None:
    """Deletes all due work, so that workers process only later work."""
    Work.objects.filter(due_at__isnull=False).delete()


def process_with_celery(redis_url: str, messages: int) -> int:
    """Sends messages to the workers and waits until every enrollment is settled. Returns how many
    were unsettled before. Raises RuntimeError after ten minutes."""
    from campus.worker import app
    from usher.engine.tasks import work

    app.conf.broker_url = redis_url
    unsettled = Enrollment.objects.unsettled()
    count = unsettled.count()
    for _ in range(messages):
        work.delay()
    deadline = time.monotonic() + 600
    while unsettled.exists():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{unsettled.count()} enrollments are still not settled")
        time.sleep(0.05)
    return count


# Very many learners


def create_many_accounts(username_prefix: str, count: int) -> int:
    """Creates learners, whose names are the prefix and a number from 0, with settled accounts. They
    are copies of one row, made with SQL. Returns the number of all accounts."""
    create_learners(username_prefix + "{}", first=0, end=1)
    create_accounts(username_prefix + "{}", first=0, end=1)
    user = get_user_model().objects.get(username=f"{username_prefix}0")
    numbered = f"'{username_prefix}' || g"
    copy_row(
        get_user_model(),
        user.pk,
        {"username": numbered, "email": f"{numbered} || '@bench.example'"},
        f"generate_series(1, {count - 1}) g",
    )
    user_table = get_user_model()._meta.db_table
    other_users = f"(SELECT id, username FROM {user_table} WHERE id > {user.pk}) u"
    columns_of_user = {"username": "u.username", "user_id": "u.id"}
    reservation = user.username_reservations.get()
    copy_row(UsernameReservation, reservation.pk, columns_of_user, other_users)
    copy_row(LmsAccount, user.lms_account.pk, columns_of_user, other_users)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return LmsAccount.objects.count()


def copy_row(model: Any, pk: int, changed_columns: dict[str, str], rows: str) -> None:
    """Copies the row with the primary key ``pk``, once for each row of ``rows``.

    rows: SQL of a table with an alias. changed_columns: column → SQL of the value in the copies,
    for columns that differ.
    """
    table = model._meta.db_table
    columns = [field.column for field in model._meta.concrete_fields if not field.primary_key]
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(changed_columns.get(column, f't."{column}"') for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} t, {rows} "
            f"WHERE t.id = {pk}"
        )


def recheck_all() -> dict[str, Any]:
    """Compares every account with the LMS. Returns the summary, with ``peak_mb``: this process's
    peak memory."""
    recheck(["account"])
    summary = reconcile(["account"]).as_dict()
    return summary | {"peak_mb": peak_mb()}


def peak_mb() -> float:
    """The peak memory of this process, in megabytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


# People during a backlog


def make_due_again(username_prefix: str) -> int:
    """Makes the enrollments of these learners due, as if they had never been sent."""
    rows = Enrollment.objects.filter(user__username__startswith=username_prefix)
    rows.update(observed_generation=0, observed_is_active=None)
    return rows.make_due()


def count_unsettled(username_prefix: str) -> int:
    return Enrollment.objects.filter(user__username__startswith=username_prefix).unsettled().count()


def count_claimed() -> int:
    """How many enrollments a worker has claimed."""
    return Work.objects.filter(kind="enrollment").exclude(lease_owner="").count()


def sweep() -> None:
    """Runs a sweep, which sends messages to the workers, as Celery beat does."""
    from campus.worker import app
    from usher.engine import tasks

    app.set_default()
    tasks.sweep()


def sign_up_and_enroll(
    username_pattern: str, count: int, concurrency: int
) -> dict[str, list[float]]:
    """``count`` people sign up, wait for the token, enroll and wait for the LMS. Returns each
    person's seconds of both waits."""
    from campus.worker import app
    from usher.application.accounts.services import ensure_account
    from usher.application.enrollments.services import enroll

    app.set_default()
    run = CourseRun.objects.order_by("pk")[0]

    def measure_waits(number: int) -> tuple[float, float]:
        """Seconds from sign-up to token, and from ``enroll`` to the LMS."""
        try:
            began = time.perf_counter()
            create_learners(username_pattern, first=number, end=number + 1)
            user = get_user_model().objects.get(username=username_pattern.format(number))
            ensure_account(user)
            _wait_for(LmsToken.objects.filter(user=user).exclude(access_token=""))
            signed_up = time.perf_counter()
            row = enroll(user, run)
            _wait_for(Enrollment.objects.filter(pk=row.pk, observed_generation=F("generation")))
            return signed_up - began, time.perf_counter() - signed_up
        finally:
            connection.close()

    with ThreadPoolExecutor(concurrency) as pool:
        waits = list(pool.map(measure_waits, range(count)))
    return {
        "sign_ups": [sign_up for sign_up, _ in waits],
        "enrollments": [enrollment for _, enrollment in waits],
    }


def _wait_for(rows: Any) -> None:
    """Waits until the query finds a row. Raises RuntimeError after two minutes."""
    deadline = time.monotonic() + 120
    while not rows.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("a person waited for two minutes")
        time.sleep(0.02)


# Statements


def count_statements() -> dict[str, int]:
    """The numbers of SQL statements of a learner's ``enroll``, of the worker that sends the
    enrollment, and of a pass without due rows.

    Another learner is enrolled first: the worker then confirms the LMS's identity, which it does
    again only after a while, and these statements are not counted.
    """
    delete_due_work()
    name = f"statements{time.time_ns()}"
    create_learners(name + "{}", first=0, end=2)
    first, second = get_user_model().objects.filter(username__startswith=name).order_by("pk")
    _count_statements_of(first)
    return _count_statements_of(second)


def _count_statements_of(user: Any) -> dict[str, int]:
    """Operation → number of its SQL statements."""
    from usher.application.accounts.services import ensure_account
    from usher.application.enrollments.services import enroll

    ensure_account(user, reconcile_now=True)
    reconcile()
    run = CourseRun.objects.order_by("pk")[0]
    with CaptureQueriesContext(connection) as queries_of_enroll:
        enroll(user, run)
    with CaptureQueriesContext(connection) as queries_of_worker:
        reconcile(user=user)
    with CaptureQueriesContext(connection) as queries_of_empty_pass:
        reconcile()
    if not Enrollment.objects.get(user=user, run=run).is_settled:
        raise RuntimeError("the enrollment was not sent")
    return {
        "enroll": len(queries_of_enroll),
        "worker": len(queries_of_worker),
        "empty_pass": len(queries_of_empty_pass),
    }


# Operations whose cost must not grow with the number of learners

#: Due enrollments, and how many of them one claim gets.
_DUE_COUNT, _CLAIM_COUNT = 500, 200
_LEASE_SECONDS = 60
#: The course run of all these learners.
_FLAT_RUN = "course-v1:BenchX+Flat+2026_T1"


def create_many_learners(username_prefix: str, count: int) -> int:
    """Creates learners with account, token and enrollment. All records are settled, except the
    last ``_DUE_COUNT`` enrollments, which are due. Returns the number of all
    accounts."""
    create_runs([_FLAT_RUN])
    create_many_accounts(username_prefix, count)
    run = CourseRun.objects.get(course_key=_FLAT_RUN)
    first = LmsAccount.objects.get(username=f"{username_prefix}0")
    row = Enrollment(user=first.user, run=run, observed_generation=1).without_work()
    row.save()
    other_accounts = f"(SELECT user_id FROM {LmsAccount._meta.db_table} WHERE id > {first.pk}) a"
    copy_row(LmsToken, first.user.lms_token.pk, {"user_id": "a.user_id"}, other_accounts)
    copy_row(Enrollment, row.pk, {"user_id": "a.user_id"}, other_accounts)
    due = Enrollment.objects.order_by("-pk").values("pk")[:_DUE_COUNT]
    rows = Enrollment.objects.filter(pk__in=list(due.values_list("pk", flat=True)))
    rows.update(observed_generation=0)
    rows.make_due()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return LmsAccount.objects.count()


def measure_operation(name: str) -> list[float]:
    """Seconds of ten repetitions, after two that fill the caches. name: one of
    ``benchmarks.measures.flat.OPERATIONS``."""
    measure_once = {
        "claim": _measure_claim,
        "sweep": _measure_sweep,
        "webhook": _measure_webhook,
        "empty_pass": _measure_empty_pass,
    }[name]
    if name == "empty_pass":
        delete_due_work()
    for _ in range(2):
        measure_once()
    return [measure_once() for _ in range(10)]


def _measure_claim() -> float:
    from usher.engine.claim import Scope, claim, release

    began = time.perf_counter()
    _, rows = claim(all_kinds()["enrollment"], Scope(), _CLAIM_COUNT, _LEASE_SECONDS)
    seconds = time.perf_counter() - began
    if len(rows) != _CLAIM_COUNT:
        raise RuntimeError(f"{len(rows)} rows were claimed")
    release(all_kinds()["enrollment"], rows)
    return seconds


def _measure_sweep() -> float:
    from usher.engine.due_query import count_due
    from usher.engine.services import prepare_sweep
    from usher.engine.tasks import MAX_SHARES, ROWS_A_SHARE

    began = time.perf_counter()
    prepare_sweep()
    count_due(list(all_kinds().values()), most=MAX_SHARES * ROWS_A_SHARE)  # as the sweep does
    return time.perf_counter() - began


def _measure_webhook() -> float:
    # The seconds in which a message of the LMS about one settled enrollment is processed.
    from usher.application.webhooks.services import process_message

    # Not one of the last ``_DUE_COUNT`` learners, whose enrollments are due.
    newest_first = LmsAccount.objects.order_by("-pk").values_list("username", flat=True)
    username = newest_first[_DUE_COUNT + 100]
    began = time.perf_counter()
    process_message(f"event-{time.time_ns()}", "enrollment.changed", username, _FLAT_RUN)
    seconds = time.perf_counter() - began
    Enrollment.objects.filter(user__username=username).forget_work()  # settled again
    return seconds


def _measure_empty_pass() -> float:
    began = time.perf_counter()
    reconcile()
    return time.perf_counter() - began
