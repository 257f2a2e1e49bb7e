"""Faults of learners and of the set-up. Some tests run the advised command and check that it
removes the finding."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doctor.faults.system import System
from tests.doctor.small_server import Answer, serving
from usher.doctor.check import Finding, Status, all_checks
from usher.doctor.context import create_context
from usher.doctor.facts.commands import Command

GET_ADA = (
    "from django.contrib.auth import get_user_model as g\nada = g().objects.get(username='ada')\n"
)
#: The learner's enrollments in the LMS, as a queryset.
GET_ENROLLMENTS = """
from django.conf import settings
from importlib import import_module
model = import_module(settings.USHER_PLATFORM).enrollment_model()
enrollments = model.objects.filter(user__username='ada')
"""


def finding_of_only_root_cause(
    system: System, expected_id: str, **replaced_places: object
) -> Finding:
    """The finding of the check ``expected_id``, which must be doctor's only root cause."""
    report = system.examine(**replaced_places)
    assert [line.id for line in report.root_causes] == [expected_id]
    return report.root_causes[0].finding


def run_fix(finding: Finding) -> None:
    """Runs the finding's fix in a shell, exactly as printed."""
    result = subprocess.run(finding.fix, shell=True, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, f"{finding.fix}\n{result.stdout}{result.stderr}"


def manage_with_settings(system: System, folder: Path, lines: str) -> Command:
    """The application's ``manage.py`` with these lines added to its settings."""
    (folder / "other_settings.py").write_text(f"from campus.settings import *\n{lines}\n")
    environment = {
        **system.pair.application_environment,
        "DJANGO_SETTINGS_MODULE": "other_settings",
        "PYTHONPATH": str(folder),
    }
    return Command((sys.executable, "manage.py"), system.pair.campus_folder, environment)


def test_acc_6_names_an_account_that_the_lmss_staff_deactivated(system: System) -> None:
    system.lms.run(GET_ADA + "g().objects.filter(pk=ada.pk).update(is_active=False)")
    assert "ada" in finding_of_only_root_cause(system, "ACC-6").seen
    system.lms.run(GET_ADA + "g().objects.filter(pk=ada.pk).update(is_active=True)")
    assert system.root_cause_ids() == []


def test_acc_6_ignores_a_deactivation_that_the_lms_no_longer_reports(system: System) -> None:
    """The LMS's staff activated the account again, which the application has not seen yet."""
    observe_ada = (
        "from usher.application.accounts.models import LmsAccount\n"
        "LmsAccount.objects.filter(username='ada').update(observed_is_active={is_active})"
    )
    system.application.run(observe_ada.format(is_active=False))
    try:
        assert "ACC-6" not in {line.id for line in system.examine().root_causes}
    finally:
        system.application.run(observe_ada.format(is_active=True))


def test_acc_6_ignores_the_inactive_account_of_a_deleted_learner(system: System) -> None:
    system.lms.run(GET_ADA + "g().objects.filter(pk=ada.pk).update(is_active=False)")
    # Ada is deleted: her username belongs to a retirement that the LMS has confirmed.
    system.application.run(
        "from usher.application.accounts.models import LmsAccount, Retirement\n"
        "account = LmsAccount.objects.get(username='ada')\n"
        "Retirement.objects.create(username='ada', generation=1, observed_generation=1)\n"
        "LmsAccount.objects.filter(pk=account.pk).update(username='ada_of_before')"
    )
    try:
        assert "ACC-6" not in {line.id for line in system.examine().root_causes}
        # Without the record of the retirement, as after the loss of the application's database.
        system.application.run(
            "from usher.application.accounts.models import Retirement\n"
            "Retirement.objects.all().delete()"
        )
        (line,) = (line for line in system.examine().root_causes if line.id == "ACC-6")
        assert line.finding.seen == "deactivated in the LMS: ada"
    finally:
        system.application.run(
            "from usher.application.accounts.models import LmsAccount, Retirement\n"
            "Retirement.objects.all().delete()\n"
            "LmsAccount.objects.filter(username='ada_of_before').update(username='ada')"
        )
        system.lms.run(GET_ADA + "g().objects.filter(pk=ada.pk).update(is_active=True)")


def test_acc_7_names_a_username_that_shows_an_email_address(system: System) -> None:
    system.application.run(
        "from django.contrib.auth import get_user_model\n"
        "from django.utils import timezone\n"
        "from usher.application.accounts.models import LmsAccount\n"
        "user = get_user_model()(username='ann', email='ann.smith@example.org')\n"
        "get_user_model().objects.bulk_create([user])\n"
        "LmsAccount.objects.bulk_create([LmsAccount(user=user, username='ann_smith_example_org',"
        " reserved_at=timezone.now(), observed_generation=1, due_at=None)])"
    )
    assert "ann_smith_example_org" in finding_of_only_root_cause(system, "ACC-7").seen


def test_app_7_names_the_pages_of_a_redirect_loop(system: System) -> None:
    # A gateway that sends people to and fro between its sign-in page and the authorize page.
    answers = {
        "/oauth2/authorize/": Answer(302, None, {"Location": "/login/?next=/oauth2/authorize/"}),
        "/login/": Answer(302, None, {"Location": "/oauth2/authorize/"}),
    }
    with serving(answers) as gateway:
        system.lms.run(
            "import json\nfrom django.conf import settings\nfrom importlib import import_module\n"
            "row = import_module(settings.USHER_PLATFORM).provider_model().objects.latest('pk')\n"
            "values = json.loads(row.other_settings)\n"
            f"values['AUTHORIZATION_URL'] = '{gateway}/oauth2/authorize/'\n"
            "row.pk, row.other_settings = None, json.dumps(values)\nrow.save()"
        )
        finding = finding_of_only_root_cause(system, "APP-7", demo_home=system.pair.home)
    assert "/login/" in finding.seen
    # The fix is a sentence about the .env, then a command; here the command alone helps.
    _, _, command = finding.fix.partition(", then ")
    arguments = command.removeprefix("usher ")
    subprocess.run(f"{sys.executable} -m usher.cli.main {arguments}", shell=True, check=True)
    assert system.root_cause_ids() == []


def test_app_8_fails_if_the_application_redirects_to_https_only(
    system: System, tmp_path: Path
) -> None:
    line = "OAUTH2_PROVIDER = {**OAUTH2_PROVIDER, 'ALLOWED_REDIRECT_URI_SCHEMES': ['https']}"
    finding = finding_of_only_root_cause(
        system, "APP-8", manage=manage_with_settings(system, tmp_path, line)
    )
    assert "https_only=False" in finding.fix
    line = line.replace("['https']", "['http', 'https']")
    assert system.root_cause_ids(manage=manage_with_settings(system, tmp_path, line)) == []


def test_app_10_fails_if_both_session_cookies_have_the_same_name(
    system: System, tmp_path: Path
) -> None:
    manage = manage_with_settings(system, tmp_path, "SESSION_COOKIE_NAME = 'sessionid'")
    # The application is at localhost and the LMS at 127.0.0.1: the cookies don't collide.
    assert system.root_cause_ids(manage=manage) == []
    with create_context(replace(system.places, manage=manage)) as context:
        context.application.url = context.lms.url  # both have one host name now
        finding = all_checks()["APP-10"]().probe(context)
    assert finding.status is Status.FAILED
    assert "one session cookie, sessionid" in finding.seen


def test_enr_4_names_an_enrollment_that_only_the_lms_has(system: System) -> None:
    system.lms.run(
        # Copies ada's enrollment to another run.
        GET_ENROLLMENTS + "row = enrollments.get()\n"
        "other = type(row.course).objects.exclude(pk=row.course_id).first()\n"
        "row.pk, row.course = None, other\nrow.save()"
    )
    # The next sweep must not find the row before doctor runs.
    system.application.run(
        "from datetime import timedelta\nfrom django.utils import timezone\n"
        "from usher.engine.models import Watermark\n"
        "Watermark.objects.update_or_create(name='enrollments-listed', defaults={"
        "'since': '0', 'asked_at': timezone.now() + timedelta(hours=1)})"
    )
    finding = finding_of_only_root_cause(system, "ENR-4")
    assert "ada" in finding.seen
    run_fix(finding)
    assert system.root_cause_ids() == []


def test_the_fix_of_enr_2_restores_the_enrollment(system: System) -> None:
    system.lms.run(GET_ENROLLMENTS + "assert enrollments.update(is_active=False)")
    run_fix(finding_of_only_root_cause(system, "ENR-2"))
    assert system.root_cause_ids() == []


def test_env_4_names_the_line_that_reads_an_ignored_setting(system: System, tmp_path: Path) -> None:
    manage = manage_with_settings(system, tmp_path, "OPENEDX_BASE_REDIRECT_URL = ''")
    finding = finding_of_only_root_cause(system, "ENV-4", manage=manage)
    assert 'OPENEDX_BASE_REDIRECT_URL = os.environ.get("OPENEDX_BASE_REDIRECT_URL"' in finding.fix


def test_ops_5_fails_if_no_worker_has_reported_recently(system: System) -> None:
    with system.stopped("worker"):
        system.application.run(
            "from datetime import timedelta\nfrom django.utils import timezone\n"
            "from usher.engine.models import Watermark\n"
            # A worker that was killed 40 seconds ago and had promised a report within 30 seconds.
            "killed = {'since': '30', 'asked_at': timezone.now() - timedelta(seconds=40)}\n"
            "Watermark.objects.filter(name='worker').update(**killed)"
        )
        finding = finding_of_only_root_cause(system, "OPS-5")
    assert re.search(r"alive for 4\d seconds", finding.seen)
    assert "reconcile --watch" in finding.fix
    system.restore_records()
    assert system.root_cause_ids() == []


def test_ops_5_names_the_time_at_which_the_worker_was_stopped(system: System) -> None:
    system.wait_for_worker()
    with system.stopped("worker"):
        finding = finding_of_only_root_cause(system, "OPS-5")
    assert re.fullmatch(r"the sync worker was stopped \d+ seconds ago", finding.seen)
    system.restore_records()
    assert system.root_cause_ids() == []


def test_the_fix_of_prv_6_moves_the_links_of_a_former_backend(system: System) -> None:
    system.lms.run(
        "from social_django.models import UserSocialAuth\n"
        "assert UserSocialAuth.objects.filter(uid='ada').update(provider='ol-oauth2')"
    )
    finding = finding_of_only_root_cause(system, "PRV-6")
    assert finding.seen.startswith("1 learner is linked by ol-oauth2")
    run_fix(finding)
    assert system.root_cause_ids() == []


def test_the_fix_of_svc_6_removes_superuser_rights(system: System) -> None:
    system.lms.run(
        "from usher.lms.connections.models import ServiceWorker\n"
        "from django.contrib.auth import get_user_model as g\n"
        "g().objects.filter(pk=ServiceWorker.objects.get().user_id).update(is_superuser=True)"
    )
    run_fix(finding_of_only_root_cause(system, "SVC-6"))
    assert system.root_cause_ids() == []


@pytest.mark.parametrize(
    ("missing_tasks", "is_scheduled", "expected_text"),
    [(["usher.engine.tasks.work"], True, "does not know"), ([], False, "beat has no")],
)
def test_ops_4_fails_if_workers_lack_a_task_or_beat_has_no_schedule(
    system: System, missing_tasks: list[str], is_scheduled: bool, expected_text: str
) -> None:
    """Uses no real workers: the test writes their answers into the report. Other tests send the
    real request."""
    from usher.doctor.checks.ops import CeleryRunsTasks
    from usher.doctor.context import create_context

    with create_context(system.places) as context:
        celery = {"workers": 1, "missing_tasks": missing_tasks, "is_scheduled": is_scheduled}
        context.application.report["celery"] = celery
        finding = CeleryRunsTasks().probe(context)
    assert CeleryRunsTasks.id == "OPS-4"
    assert finding.status is Status.FAILED
    assert expected_text in finding.seen
