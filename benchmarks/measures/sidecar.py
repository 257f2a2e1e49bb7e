"""The sidecar compared with the application's own commands, on the same LMS, in turn.

The application has MITx Online's tables and, like MITx Online, creates accounts and enrollments one
after the other. Both process learners without account and token, their enrollments, which the LMS
does not have yet, and course runs of which 1% changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.lms_process import (
    LMS_CLIENT_ID,
    LMS_CLIENT_SECRET,
    LmsProcess,
    lms_process,
)
from tests.support.stand_ins import BASE_URL, StandIn

from benchmarks.application import CLIENT_ID, CLIENT_SECRET, serve_lms
from benchmarks.measuring import Figure
from benchmarks.processes import ROOT, environment_with, free_port
from benchmarks.services import Services, control
from usher.contract.oauth import DEFAULT_BACKEND, lms_redirect_uri

#: The number of enrollments of each learner, and the number of course runs.
ENROLLMENTS_EACH = 5
RUN_COUNT = 2000
BENCH_RUN = "course-v1:BenchX+C{:05}+2026_T1"
#: python-social-auth adds a parameter to the redirect URI. The application's own release of
#: django-oauth-toolkit accepts this parameter; with the installed release this validator does.
_OLDER_TOOLKIT = {
    "SHAPE_VALIDATOR": "benchmarks.reference.validator.Validator",
    "PYTHONPATH": str(ROOT),
}


@dataclass(frozen=True)
class Sizes:
    """Numbers of learners.

    learners: processed by the sidecar with the benchmark LMS. reference: processed by the
    application's own commands, whose rate does not depend on the number. embedded: processed by the
    sidecar with the embedded LMS. not_due: learners of the full pass, of whom none is due.
    """

    learners: int
    reference: int
    embedded: int
    not_due: int


@dataclass
class FullPass:
    """A check of all learners, of whom none is due. later_seconds: how long the next check took.
    mb: peak memory of the sidecar and the application together, in megabytes."""

    learners: int
    seconds: float
    later_seconds: float
    mb: float


def sidecar(services: Services, rounds: int, sizes: Sizes) -> tuple[list[Figure], FullPass]:
    """Measures with the public APIs and the batch API of the benchmark LMS, then with the embedded
    LMS. The check of all learners is measured with the benchmark LMS."""
    postgresql = services.postgresql()
    public = Figure("sidecar_public", "Sidecar, public APIs", "ms a learner", target_ratio=30)
    batch = Figure("sidecar_batch", "Sidecar, batch API", "ms a learner", target_ratio=100)
    embedded = Figure("sidecar_embedded", "Sidecar, embedded LMS", "ms a learner", target_ratio=10)
    with _on_benchmark_lms(services, postgresql.url("sidecar")) as (application, lms_url):
        for figure, api, has_batch_api in ((public, "public", "no"), (batch, "batch", "yes")):
            control(lms_url, "batch", on=has_batch_api)
            for number in range(rounds):
                stem = f"{api}{number}"
                _measure_round(
                    application,
                    figure,
                    stem,
                    _changing_benchmark_runs(lms_url, stem),
                    reference_learners=sizes.reference,
                    sidecar_learners=sizes.learners,
                )
        full_pass = _full_pass(application, sizes.not_due)
    with _on_embedded_lms(services, postgresql.url("embedded")) as (application, lms):
        for number in range(rounds):
            _measure_round(
                application,
                embedded,
                f"embedded{number}",
                _renaming_embedded_run(lms, number),
                reference_learners=sizes.reference,
                sidecar_learners=sizes.embedded,
            )
    return [public, batch, embedded], full_pass


@contextmanager
def _on_benchmark_lms(services: Services, database: str) -> Iterator[tuple[StandIn, str]]:
    """Yields the running application, whose runs are in sync, and the benchmark LMS's address."""
    port, lms_port = free_port(), free_port()
    # By IP address, because cookie jars reject cookies of a host without a dot.
    url = f"http://127.0.0.1:{port}"
    lms_url = f"http://127.0.0.1:{lms_port}"
    serve_lms(services, lms_port, port, "--runs", RUN_COUNT, "--application-url", url)
    settings = {
        "DATABASE_URL": database,
        BASE_URL["mitxonline"]: url,
        "OPENEDX_API_BASE_URL": lms_url,
        "OPENEDX_OAUTH_PROVIDER": DEFAULT_BACKEND,
        "OPENEDX_SOCIAL_LOGIN_PATH": f"/auth/login/{DEFAULT_BACKEND}/?auth_entry=login",
        "OPENEDX_API_CLIENT_ID": "bench-oauth-client",
        "OPENEDX_API_CLIENT_SECRET": "bench-oauth-secret",
        "OPENEDX_SERVICE_WORKER_USERNAME": "service-worker",
        "OPENEDX_SERVICE_WORKER_API_TOKEN": "bench-service-token",
        **_OLDER_TOOLKIT,
    }
    folder = services.folder / "bench" / "mitxonline"
    application = StandIn(folder, "mitxonline", **settings)
    _register_oauth_client(
        application, CLIENT_ID, CLIENT_SECRET, lms_redirect_uri(lms_url, DEFAULT_BACKEND)
    )
    keys = [BENCH_RUN.format(number) for number in range(RUN_COUNT)]
    application.run(f"keys = {keys!r}\n" + _CREATE_RUNS)
    with application.running_server(port):
        _usher(application, "reconcile", "--kind", "run")
        yield application, lms_url
    application.close()


@contextmanager
def _on_embedded_lms(services: Services, database: str) -> Iterator[tuple[StandIn, LmsProcess]]:
    """Yields the running application, which has the LMS's runs, and the embedded LMS."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with lms_process(with_plugin=True) as lms:
        lms.connect_with_plugin(url)
        values = {name: str(value) for name, value in lms.application_settings(url).items()}
        values[BASE_URL["mitxonline"]] = values.pop("SITE_BASE_URL")
        folder = services.folder / "embedded" / "mitxonline"
        application = StandIn(
            folder, "mitxonline", DATABASE_URL=database, **values, **_OLDER_TOOLKIT
        )
        _register_oauth_client(application, LMS_CLIENT_ID, LMS_CLIENT_SECRET, lms.redirect_uri)
        keys = json.loads(lms.shell(_LMS_RUNS))
        application.run(f"keys = {keys!r}\n" + _CREATE_RUNS)
        with application.running_server(port):
            yield application, lms
        application.close()


def _register_oauth_client(application: StandIn, client_id: str, secret: str, uri: str) -> None:
    application.run(
        "from oauth2_provider.models import Application\n"
        f"Application.objects.create(name='edx-oauth-app', client_id={client_id!r},\n"
        f"    client_secret={secret!r}, client_type='confidential', skip_authorization=True,\n"
        f"    authorization_grant_type='authorization-code', redirect_uris={uri!r})\nresult = None"
    )


def _changing_benchmark_runs(lms_url: str, title_mark: str) -> Callable[[str], None]:
    """A function that changes 1% of the runs. Its argument tells its calls apart."""
    return lambda call: control(lms_url, "change-runs", one_in=100, mark=title_mark + call)


def _renaming_embedded_run(lms: LmsProcess, number: int) -> Callable[[str], None]:
    """A function that renames a run. Its argument tells its calls apart."""

    def rename(call: str) -> None:
        lms.shell(_RENAME.format(title=f"Title {number} {call}"))

    return rename


def _measure_round(
    application: StandIn,
    figure: Figure,
    stem: str,
    change: Callable[[str], None],
    reference_learners: int,
    sidecar_learners: int,
) -> None:
    """Appends to ``figure`` the milliseconds that each implementation takes for one learner.

    stem: how the usernames of the round's learners begin. change: changes course runs in the LMS,
    before each implementation syncs them. Raises RuntimeError if an implementation left work
    unfinished.
    """
    run_count = application.run(
        "from courses.models import CourseRun\nresult = CourseRun.objects.count()"
    )
    each = min(ENROLLMENTS_EACH, run_count)

    # The application's own commands.
    own_stem = stem + "a"
    application.run(_CREATE_DUE_LEARNERS.format(stem=own_stem, count=reference_learners, each=each))
    change("a")
    cost = application.run(_RUN_OWN_COMMANDS)
    unfinished = application.run(_COUNT_UNFINISHED.format(stem=own_stem))
    if any(unfinished):
        raise RuntimeError(f"the application's own commands left {unfinished}")
    # Both implementations sync the runs once, however many learners there are. So the time of the
    # sync is divided by the same number of learners for both.
    seconds = (
        cost["repair"] / reference_learners
        + cost["enroll"] / reference_learners
        + cost["sync"] / sidecar_learners
    )
    figure.reference.append(seconds * 1000)

    # The sidecar.
    sidecar_stem = stem + "b"
    application.run(
        _CREATE_DUE_LEARNERS.format(stem=sidecar_stem, count=sidecar_learners, each=each)
    )
    change("b")
    outcome = _run_sidecar(application)
    unfinished = application.run(_COUNT_UNFINISHED.format(stem=sidecar_stem))
    if any(unfinished) or not outcome["ok"]:
        raise RuntimeError(f"the sidecar left {unfinished}: {str(outcome)[:500]}")
    figure.ours.append(outcome["seconds"] / sidecar_learners * 1000)


def _usher(application: StandIn, *arguments: str) -> dict[str, Any]:
    """Runs ``usher`` and returns its JSON. Raises RuntimeError if it fails."""
    options = [
        "--application",
        str(application.folder),
        "--manage",
        application.manage_command,
        "--json",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "usher.cli.main", arguments[0], *options, *arguments[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"usher {arguments[0]}: {result.stdout[-1000:]} {result.stderr[-2000:]}")
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def _run_sidecar(application: StandIn, passes: int = 1) -> dict[str, Any]:
    """Runs the sidecar in another process. Returns what ``benchmarks.measures.sidecar_pass``
    prints, whose times do not include the start of that process and of the application."""
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.measures.sidecar_pass",
            str(application.folder),
            str(passes),
        ],
        cwd=ROOT,
        env=environment_with({}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    data: dict[str, Any] = json.loads(result.stdout)
    return data


def _full_pass(application: StandIn, learners: int) -> FullPass:
    """Creates learners with SQL, each with account, token and an enrollment in sync. Then measures
    two checks of all of them. Raises RuntimeError if a learner was due."""
    application.run(_CREATE_SETTLED_LEARNERS.format(count=learners))
    outcome = _run_sidecar(application, passes=2)
    if outcome["numbers"]:
        raise RuntimeError(f"some learners were due: {outcome}")
    return FullPass(
        learners,
        seconds=outcome["seconds"],
        later_seconds=outcome["later"],
        mb=outcome["mb"],
    )


#: Creates course runs in the application with the keys in ``keys``, a variable set before.
_CREATE_RUNS = """
from courses.models import Course, CourseRun
course = Course.objects.create(readable_id="course-v1:bench", title="Bench")
CourseRun.objects.bulk_create([CourseRun(course=course, courseware_id=key, title="?", run_tag="R",
    live=True) for key in keys], batch_size=1000)
result = None
"""
#: Makes all runs of the embedded LMS offer the mode audit, and prints their keys.
_LMS_RUNS = """
import json
from usher.embedded.course_modes.models import CourseMode
from usher.embedded.course_overviews.models import CourseOverview
keys = [str(run.id) for run in CourseOverview.objects.all()]
for key in keys:
    CourseMode.objects.get_or_create(course_id=key, mode_slug="audit",
        defaults={"mode_display_name": "Audit"})
print(json.dumps(keys))
"""
#: Renames the first run of the embedded LMS.
_RENAME = """
from usher.embedded.course_overviews.models import CourseOverview
print(CourseOverview.objects.filter(pk=CourseOverview.objects.first().pk).update(
    display_name="{title}"))
"""
#: Creates learners with enrollments, none of which the LMS has. They are two days old, because the
#: sidecar leaves new rows to the application.
_CREATE_DUE_LEARNERS = """
from datetime import timedelta
from django.utils import timezone
from courses.models import CourseRun, CourseRunEnrollment
from users.models import LegalAddress, User
old = timezone.now() - timedelta(days=2)
names = ["{stem}x%d" % number for number in range({count})]
User.objects.bulk_create([User(username=name, email=name + "@bench.example", name="Bench Learner",
    is_active=True, last_login=old, password="!") for name in names])
User.objects.filter(username__in=names).update(created_on=old)
users = list(User.objects.filter(username__in=names))
LegalAddress.objects.bulk_create([LegalAddress(user=user, country="US") for user in users])
runs = list(CourseRun.objects.order_by("pk")[:{each}])
rows = [CourseRunEnrollment(user=user, run=run) for user in users for run in runs]
CourseRunEnrollment.all_objects.bulk_create(rows)
CourseRunEnrollment.all_objects.filter(user__in=users).update(created_on=old)
result = None
"""
#: Runs the application's own commands. Its result is the seconds of each.
_RUN_OWN_COMMANDS = """
import time
from django.core.management import call_command
result = {}
for name, command in (("repair", "repair_missing_courseware_records"),
                      ("enroll", "retry_edx_enrollment"), ("sync", "sync_courserun")):
    started = time.perf_counter()
    options = {"all": "ALL"} if name == "sync" else {}
    call_command(command, stdout=open("/dev/null", "w"), **options)
    result[name] = time.perf_counter() - started
"""
#: Its result is three numbers, all 0 if everything was processed: minus the learners without
#: account, the learners without token, and the enrollments that were not sent.
_COUNT_UNFINISHED = """
from courses.models import CourseRunEnrollment
from users.models import User
users = User.objects.filter(username__startswith="{stem}x")
result = [users.filter(openedx_users__has_been_synced=True).count() - users.count(),
    users.filter(openedx_api_auth__isnull=True).count(),
    CourseRunEnrollment.objects.filter(user__in=users, edx_enrolled=False).count()]
"""
#: Creates learners whose account, token and enrollment are recorded as created in the LMS.
_CREATE_SETTLED_LEARNERS = """
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute('''
        INSERT INTO users_user (username, email, name, is_staff, is_superuser, is_active, password,
                                created_on, updated_on, last_login)
        SELECT 'many' || g, 'many' || g || '@bench.example', 'Many', false, false, true, '!',
               now() - interval '9 days', now() - interval '9 days', now() - interval '9 days'
        FROM generate_series(1, {count}) g''')
    for table, columns, values in (
        ("users_legaladdress", "first_name, last_name, country", "'', '', 'US'"),
        ("openedx_openedxuser", "platform, edx_username, has_been_synced, has_sync_error",
         "'edx', username, true, false"),
        ("openedx_openedxapiauth", "refresh_token", "'r'"),
        ("courses_courserunenrollment", "run_id, active, enrollment_mode, edx_enrolled, "
         "edx_emails_subscription, edx_enrollment_retry_count",
         "(SELECT min(id) FROM courses_courserun), true, 'audit', true, true, 0"),
    ):
        cursor.execute(f'''
            INSERT INTO {{table}} (user_id, created_on, updated_on, {{columns}})
            SELECT id, created_on, updated_on, {{values}} FROM users_user
            WHERE username LIKE 'many%' ''')
    cursor.execute("ANALYZE")
result = None
"""
