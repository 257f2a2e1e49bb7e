"""Faults of the application: its OAuth2 provider, its records, its sync worker."""

import sys
from pathlib import Path

import pytest

from tests.doctor.faults.system import System
from usher.doctor.facts.commands import Command

#: Reads the LMS's OAuth client at the application.
GET_CLIENT = """
from oauth2_provider.models import get_application_model
client = get_application_model().objects.get()
"""
#: Defines ``refused``, which makes all records of a model refused by the LMS. more: values of their
#: work that differ, for example to make them retrying.
DEFINE_REFUSED = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from usher.application.accounts.models import LmsAccount, UsernameReservation
from usher.application.enrollments.models import Enrollment
from usher.application.runs.models import CourseRun
from usher.application.tokens.models import LmsToken
now = timezone.now()
later = now + timedelta(hours=1)
def refused(model, code, message="the LMS said so", **more):
    values = {"error_class": "rejected", "error_code": code, "error_message": message,
              "attempts": 1, "refused_at": now, "due_at": None, **more}
    assert model.objects.set_work(**values)
"""


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "fault"),
    [
        (
            "APP-1",
            "/auth/complete/mitxpro-oauth2/",
            "client.redirect_uris = 'http://127.0.0.1:8000/auth/complete/mitxpro-oauth2/'\n"
            "client.save()",
        ),
        (
            "APP-2",
            "PKCE is required of edx-oauth-app",
            "client.usher_policy.pkce_required = True; client.usher_policy.save()",
        ),
        (
            # The right secret, but hashed as a password: slow at each sign-in.
            "APP-5",
            "hashed with pbkdf2_sha256",
            "from django.contrib.auth.hashers import make_password\n"
            "from pathlib import Path\nimport json, os\n"
            "home = Path(os.environ['CAMPUS_HOME']).parent\n"
            "secret = json.loads((home / 'credentials.json').read_text())['lms_client_secret']\n"
            "type(client).objects.update(client_secret=make_password(secret))",
        ),
        (
            "APP-11",
            "edx-oauth-app is public",
            "client.client_type = 'public'; client.save()",
        ),
        (
            "PRV-5",
            "invalid_client",
            "client.client_secret = 'another secret'; client.save()",
        ),
    ],
)
def test_a_fault_of_the_lmss_client_is_the_root_cause(
    system: System, expected_id: str, expected_text: str, fault: str
) -> None:
    system.application.run(GET_CLIENT + fault)
    report = system.examine()
    assert [line.id for line in report.root_causes] == [expected_id]
    finding = report.root_causes[0].finding
    assert expected_text in f"{finding.seen}\n{finding.cause}"


def test_app_3_fails_if_a_scope_is_missing(system: System, tmp_path: Path) -> None:
    (tmp_path / "without_scope.py").write_text(
        "from campus.settings import *\n"
        "SCOPES = {'SCOPES': {'read': 'Read'}, 'DEFAULT_SCOPES': ['read']}\n"
        "OAUTH2_PROVIDER = {**OAUTH2_PROVIDER, **SCOPES}"
    )
    environment = {
        **system.pair.application_environment,
        "DJANGO_SETTINGS_MODULE": "without_scope",
        "PYTHONPATH": str(tmp_path),
    }
    manage = Command((sys.executable, "manage.py"), system.pair.campus_folder, environment)
    report = system.examine(manage=manage)
    assert [line.id for line in report.root_causes] == ["APP-3"]
    assert "user:read" in report.root_causes[0].finding.fix


@pytest.mark.parametrize(
    ("expected_id", "expected_text", "fault"),
    [
        ("ACC-1", "ada", "refused(LmsAccount, 'duplicate-username')"),
        ("ACC-2", "ada", "refused(LmsAccount, 'duplicate-email')"),
        ("ACC-3", "ada", "refused(LmsAccount, 'validation-error')"),
        ("LMS-6", "forbidden-request", "refused(LmsAccount, 'forbidden-request')"),
        ("OAU-2", "invalid_grant", "refused(LmsToken, 'invalid_grant')"),
        ("ENR-1", "refuses", "refused(Enrollment, 'enrollment-refused')"),
        ("ENR-3", "the LMS refuses", "refused(Enrollment, 'mode-mismatch')"),
        (
            # A kind and a code that no other check reports.
            "OPS-6",
            "the LMS said so (1 record of kind profile, such as Ada Lovelace)",
            "from usher.application.accounts.models import LmsProfile\n"
            "ada = LmsAccount.objects.get(username='ada').user\n"
            "LmsProfile.objects.create(user=ada, name='Ada Lovelace')\n"
            "refused(LmsProfile, 'a-code-of-tomorrow')",
        ),
        ("OPS-6", "2 LMS accounts, such as ada", "refused(LmsAccount, 'protected-account')"),
        (
            "OPS-6",
            "2 LMS accounts, such as ada",
            "refused(LmsAccount, 'username-taken', error_class='transient')",
        ),
        ("OPS-6", "2 tokens, such as token of ada", "refused(LmsToken, 'sign-in-stopped')"),
        (
            # Retried although the LMS refuses it.
            "OPS-2",
            "up to 40 times",
            "refused(LmsAccount, 'duplicate-email', attempts=40, refused_at=None, due_at=later)",
        ),
        (
            "OPS-3",
            "are paused",
            "refused(LmsToken, 'circuit-open', error_class='transient', refused_at=None,"
            " due_at=later)",
        ),
        (
            "CRS-3",
            "throttle",
            "refused(CourseRun, 'throttled', error_class='throttled', refused_at=None,"
            " due_at=later)",
        ),
        (
            "CRS-1",
            "course-v1:edX+DemoX+Demo_Course",
            "CourseRun.objects.filter(course_key__contains='DemoX').update(missing_since=now)",
        ),
        (
            # A run that is in sync gets a malformed key.
            "CRS-2",
            "course-v1:typed wrong",
            "CourseRun.objects.bulk_create([CourseRun(course_key='course-v1:a+b+c', due_at=None)])"
            "\n"
            "run = CourseRun.objects.filter(course_key='course-v1:a+b+c')\n"
            "run.update(course_key='course-v1:typed wrong')",
        ),
        (
            # Ada's username is reserved for another learner.
            "ACC-4",
            "ada",
            "other = get_user_model().objects.create_user('eve', email='eve@learners.example')\n"
            "assert UsernameReservation.objects.filter(username='ada').update(user=other)",
        ),
    ],
)
def test_a_fault_of_a_record_is_the_root_cause(
    system: System, expected_id: str, expected_text: str, fault: str
) -> None:
    system.application.run(DEFINE_REFUSED + fault)
    report = system.examine()
    assert [line.id for line in report.root_causes] == [expected_id]
    finding = report.root_causes[0].finding
    assert expected_text in f"{finding.seen}\n{finding.cause}"


def test_only_crs_2_names_a_malformed_run_that_was_reconciled(system: System) -> None:
    system.application.run(
        DEFINE_REFUSED + "from usher.application.enrollments.services import enroll\n"
        "from usher.application.runs.models import RunModes\n"
        "from usher.engine.services import reconcile\n"
        # New runs need a well-formed key, so the key is changed afterwards.
        "run = CourseRun.objects.create(course_key='course-v1:a+b+c')\n"
        "RunModes.objects.create(run=run)\n"
        "CourseRun.objects.filter(pk=run.pk).update(course_key='course-v1:typed wrong')\n"
        "run.refresh_from_db()\n"
        "enroll(get_user_model().objects.get(username='ada'), run)\n"
        "reconcile()\n"
        "assert CourseRun.objects.get(pk=run.pk).refused_at\n"
        "assert Enrollment.objects.get(run=run).refused_at"
    )
    faults = [
        line for line in system.examine().lines if line.finding.status in ("warning", "failed")
    ]
    assert [line.id for line in faults] == ["CRS-2"]


def test_enr_1_names_the_cause_of_the_refusals(system: System) -> None:
    system.application.run(DEFINE_REFUSED + "refused(Enrollment, 'unknown-run')")
    (cause,) = system.examine().root_causes
    assert cause.id == "ENR-1"
    assert "does not have this course run" in cause.finding.cause
    assert "publish the run" in cause.finding.fix


def test_acc_2_names_a_learner_whose_email_address_is_registered_in_the_lms(system: System) -> None:
    """Somebody has registered in the LMS, and then signs up in the application."""
    system.lms.run(
        "from django.contrib.auth import get_user_model\n"
        "get_user_model().objects.create_user('bob', email='bob@learners.example')"
    )
    system.application.run(
        "from django.contrib.auth import get_user_model\n"
        "from usher.application.accounts.services import ensure_account\n"
        "from usher.engine.services import reconcile\n"
        "user = get_user_model().objects.create_user(\n"
        "    'robert', email='bob@learners.example', name='Bob')\n"
        "ensure_account(user)\n"
        "reconcile(['account'], user=user)"
    )
    report = system.examine()
    assert [line.id for line in report.root_causes] == ["ACC-2"]
    assert "adopt_users" in report.root_causes[0].finding.fix


def test_ops_1_fails_if_a_row_is_overdue(system: System) -> None:
    with system.stopped("worker"):
        system.application.run(
            DEFINE_REFUSED + "LmsAccount.objects.set_work(due_at=now - timedelta(minutes=20))\n"
            # OPS-5 must pass: the worker seems to be alive.
            "from usher.engine.heartbeat import beat\nbeat()"
        )
        report = system.examine()
        system.restore_records()  # before the worker starts again and processes the row
    assert [line.id for line in report.root_causes] == ["OPS-1"]
    assert "reconcile --watch" in report.root_causes[0].finding.fix


def test_ops_4_fails_if_the_broker_is_down(system: System) -> None:
    url = "redis://127.0.0.1:9/0"  # nothing listens at this port
    environment = {**system.pair.application_environment, "CELERY_BROKER_URL": url}
    manage = Command((sys.executable, "manage.py"), system.pair.campus_folder, environment)
    report = system.examine(manage=manage)
    assert [line.id for line in report.root_causes] == ["OPS-4"]
    assert f"does not answer: {url}: " in report.root_causes[0].finding.seen
