"""Measures the console's pages with very many learners. Runs in a process of
``benchmarks.remote_module``."""

from __future__ import annotations

import statistics
import time
from typing import Any
from urllib.parse import quote

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.utils import timezone

from benchmarks.ours import copy_row, create_many_accounts, create_runs
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseRun

#: Requests for each page.
_REPETITIONS = 5
#: The refused enrollments have these error codes in turn.
_ERROR_CODES = ("mode-not-offered", "enrollment-closed", "mode-kept", "course-full")


def prepare(count: int, refused: int) -> int:
    """Creates ``count`` learners, all in one run; ``refused`` of their enrollments are refused.
    Returns the number of refused enrollments."""
    create_many_accounts("console", count)
    create_runs([f"course-v1:Console+C{number}+R" for number in range(50)])
    first = Enrollment(
        user=get_user_model().objects.get(username="console0"),
        run=CourseRun.objects.get(course_key="course-v1:Console+C0+R"),
        observed_generation=1,
        observed_mode="audit",
        observed_is_active=True,
    ).without_work()
    first.save()
    users = get_user_model()._meta.db_table
    other_users = (
        f"(SELECT id FROM {users} WHERE username LIKE 'console%' AND id <> {first.user_id}) u"
    )
    copy_row(Enrollment, first.pk, {"user_id": "u.id"}, other_users)
    codes = ", ".join(f"'{code}'" for code in _ERROR_CODES)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usher_engine_work (kind, object_id, lane, attempts, lease_owner, "
            "refused_at, error_class, error_code, error_message) "
            "SELECT 'enrollment', id, 1, 1, '', now() - id * interval '1 second', 'rejected', "
            f"(ARRAY[{codes}])[1 + mod(id, {len(_ERROR_CODES)})], 'The LMS says no to ' || id "
            "FROM usher_enrollment ORDER BY md5(id::text) LIMIT %s",
            [refused],
        )
        cursor.execute(
            "UPDATE usher_enrollment SET observed_generation = 0 WHERE id IN "
            "(SELECT object_id FROM usher_engine_work WHERE kind = 'enrollment')"
        )
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")  # so that writing these rows to disk is not measured
    return Enrollment.objects.refused().count()


def measure_pages() -> dict[str, float]:
    """Page → median milliseconds of server time, without caches."""
    django_settings.ALLOWED_HOSTS = ["*"]
    model = get_user_model()
    admin = model.objects.filter(username="boss").first()  # from an earlier call
    browser = Client()
    browser.force_login(admin or model.objects.create_superuser("boss", "boss@bench.example"))
    row = Enrollment.objects.refused().select_related("user").first()
    if row is None:
        raise RuntimeError("nothing is refused: prepare() comes first")
    oldest_refused_at, oldest_pk = (
        Enrollment.objects.refused()
        .order_by("work__refused_at")
        .values_list("work__refused_at", "pk")[0]
    )
    group = f"/staff/refusals/group/?kind=enrollment&code={row.error_code}"
    # The position of the oldest row; the list is newest first.
    before = f"{oldest_refused_at:%Y-%m-%dT%H:%M:%S.%f%z}|{oldest_pk}"
    urls: dict[str, str] = {
        "overview": "/staff/",
        "refusals": "/staff/refusals/",
        "a group of refusals": group,
        "its last page": f"{group}&before={quote(before)}",
        "learners": "/staff/learners/",
        "a search by e-mail": f"/staff/learners/?q={row.user.email.upper()}",
        "a search for nobody": "/staff/learners/?q=nobody@nowhere.example",
        "a learner": f"/staff/learners/{row.user_id}/",
        "course runs": "/staff/runs/",
        "a run with all learners": f"/staff/runs/{row.run_id}/",
        "doctor": "/staff/doctor/",
    }
    for address in urls.values():
        browser.get(address)  # templates are loaded and statements prepared
    return {name: _milliseconds(browser, address) for name, address in urls.items()}


def _milliseconds(browser: Any, address: str) -> float:
    """The median of several requests. Raises RuntimeError for an answer other than 200 or 302."""
    times = []
    for _ in range(_REPETITIONS):
        cache.clear()
        started = time.perf_counter()
        answer = browser.get(address)
        times.append((time.perf_counter() - started) * 1000)
        if answer.status_code not in (200, 302):  # a search with one result redirects to it
            raise RuntimeError(f"{address} answered {answer.status_code} at {timezone.now()}")
    return round(statistics.median(times), 1)
