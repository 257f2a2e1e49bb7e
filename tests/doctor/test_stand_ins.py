"""Doctor's findings in applications with the tables of MITx Online and MIT xPro, which are not
built on Usher."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import usher
from tests.support.stand_ins import StandIn
from usher.doctor.check import Finding, Status
from usher.doctor.checks.app import SignInHasNoLoop
from usher.doctor.checks.enr import NoLearnerWasGivenUp
from usher.doctor.context import Context, create_context
from usher.doctor.find import DoctorOptions, find_places
from usher.doctor.runner import run

pytestmark = pytest.mark.xdist_group("doctor-stand-ins")
SOURCE = Path(usher.__file__).parent
#: Creates a learner who signed in an hour ago and has no LMS username.
MAKE_LEARNER = """
from datetime import timedelta
from django.contrib.auth import get_user_model
from django.utils import timezone
from openedx.models import OpenEdxUser
long_ago = timezone.now() - timedelta(hours=1)
user = get_user_model().objects.create(email="zoe@example.org", username="zoe", is_active=True)
type(user).objects.filter(pk=user.pk).update(last_login=long_ago, created_on=long_ago)
result = user.pk
"""


@pytest.fixture(scope="module")
def mitxonline(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return StandIn(tmp_path_factory.mktemp("application") / "mitxonline", "mitxonline")


def context_of(application: StandIn) -> Context:
    variables = " ".join(f"{name}={value}" for name, value in application.values.items())
    manage = f"env {variables} {application.manage_command}"
    return create_context(
        find_places(DoctorOptions(application=str(application.folder), manage=manage))
    )


def findings(application: StandIn, *only: str) -> dict[str, Finding]:
    with context_of(application) as context:
        return {line.id: line.finding for line in run(context, only).lines}


@pytest.mark.slow
def test_app_9_and_enr_5_read_the_applications_own_tables(mitxonline: StandIn) -> None:
    mitxonline.run(MAKE_LEARNER)
    names = ("APP-9", "ACC-1")
    # A learner without an LMS username.
    first_findings: dict[str, Any] = findings(mitxonline, *names)
    assert first_findings["APP-9"].status is Status.NOTE
    assert "zoe@example.org" in first_findings["APP-9"].seen
    # The same learner with an LMS account that MITx Online has given up.
    mitxonline.run(
        "from django.contrib.auth import get_user_model\nfrom openedx.models import OpenEdxUser\n"
        "OpenEdxUser.objects.create(user=get_user_model().objects.get(username='zoe'),"
        " edx_username='zoe', has_sync_error=True, sync_error_data={'username': ['taken']})\n"
        "result = 1"
    )
    assert findings(mitxonline, "APP-9")["APP-9"].status is Status.OK
    assert findings(mitxonline, "ENR-5")["ENR-5"].status is Status.SKIPPED  # no LMS is known
    # So this runs the check ENR-5 itself.
    with context_of(mitxonline) as context:
        (error,) = context.application.errors("account", "has-sync-error")
        finding = NoLearnerWasGivenUp().probe(context)
    assert (error["count"], error["sample"]) == (1, "zoe@example.org")
    assert finding.status is Status.WARNING
    assert "zoe@example.org" in finding.seen


def test_checks_without_facts_in_the_applications_tables_are_skipped(mitxonline: StandIn) -> None:
    finding_by_id = findings(mitxonline)
    unknown_ids = ("OPS-1", "OPS-3", "OPS-5", "ACC-1", "ACC-2", "ACC-3", "ACC-7", "CRS-1", "ENR-1")
    for check_id in unknown_ids:
        assert finding_by_id[check_id].status is Status.SKIPPED, check_id


def test_the_report_lists_malformed_course_keys(mitxonline: StandIn) -> None:
    # Two well-formed keys, then two malformed ones.
    keys = ("course-v1:MITx+1.00x+2T2026", "MITx/1.00x/2T2026", "course-v1:MITx+1.00x", "1.00x 2T")
    mitxonline.run(
        "from courses.models import Course, CourseRun\n"
        "course = Course.objects.create(title='x', readable_id='x')\n"
        f"for number, key in enumerate({keys!r}):\n"
        "    CourseRun.objects.create(course=course, title='x', run_tag=str(number),"
        " courseware_id=key)\n"
        "result = 1"
    )
    with context_of(mitxonline) as context:
        assert sorted(context.application.report["malformed_runs"]) == sorted(keys[2:])


@pytest.mark.parametrize(
    ("has_gateway", "fix"),
    [(True, "MITOL_APIGATEWAY_DISABLE_MIDDLEWARE=False"), (False, "application's base address")],
)
def test_the_fix_of_a_sign_in_loop_fits_an_application_with_an_api_gateway(
    has_gateway: bool, fix: str
) -> None:
    """MITx Online has no sign-in page of its own, so another base address does not help."""
    context: Any = SimpleNamespace(
        web=SimpleNamespace(follow=lambda _: (["/oauth2/authorize/", "/login/"] * 3, 302)),
        lms=SimpleNamespace(at=str),
        sign_in_path="/auth/login/ol-oauth2/",
        application=SimpleNamespace(report={"signs_in_at_gateway": has_gateway}),
    )
    finding = SignInHasNoLoop().probe(context)
    assert finding.status is Status.FAILED
    assert fix in finding.fix


#: Programs that run in the application's own Python, where Usher may not be installed.
SCRIPTS = [
    *(SOURCE / "doctor/facts").glob("*_script.py"),
    *(SOURCE / "connect/application/scripts").glob("[a-z]*.py"),
    SOURCE / "doctor/journey_learner.py",
    SOURCE / "journey/learner.py",
    SOURCE / "sidecar/agent.py",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_imports_only_packages_that_every_application_has(script: Path) -> None:
    names = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    available_packages = {*sys.stdlib_module_names, "django", "oauth2_provider"}
    assert names - available_packages <= {"usher"}  # usher: only if it is installed


@pytest.mark.parametrize(
    "script", [*SCRIPTS, SOURCE / "connect/openedx/scripts/inspect_root.py"], ids=lambda p: p.stem
)
def test_a_script_for_another_python_has_the_syntax_of_python_3_9(script: Path) -> None:
    """``inspect_root`` runs in Tutor's Python."""
    ast.parse(script.read_text(), feature_version=(3, 9))
