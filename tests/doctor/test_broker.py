"""A broker without Celery installed, and an application that does not start."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.doctor.small_server import NO_SERVER, Answer, serving
from tests.doctor.test_net import LMS_ANSWERS
from usher.contract.application_report import NO_CELERY
from usher.contract.oauth import DEFAULT_BACKEND
from usher.contract.paths import LmsPath
from usher.doctor.check import Status
from usher.doctor.checks.net import LmsReachesApplication
from usher.doctor.checks.ops import CeleryRunsTasks
from usher.doctor.context import Places, create_context
from usher.doctor.facts.commands import Command
from usher.doctor.fixes import adapt


def test_ops_4_fails_if_celery_is_not_installed() -> None:
    report = {"usher": "1", "engine": {"broker_error": NO_CELERY}}
    context: Any = SimpleNamespace(application=SimpleNamespace(report=report))
    finding = CeleryRunsTasks().probe(context)
    assert finding.status is Status.FAILED
    assert finding.seen == "Celery is not installed, and CELERY_BROKER_URL is set"
    assert "openedx-usher[celery]" in finding.fix


def test_net_2_names_the_error_of_an_application_that_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "manage.py").write_text("raise RuntimeError('no such setting')")
    manage = Command((sys.executable, "manage.py"), tmp_path)
    probe = {"backend_name": DEFAULT_BACKEND, "url": "http://app:8013/", "error": "ConnectError"}
    report = {"version": "1", "token_probes": [probe | {"status": None}]}
    answers = LMS_ANSWERS | {str(LmsPath.USHER_REPORT): Answer(200, report)}
    with (
        serving(answers) as lms,
        create_context(
            Places(lms_url=lms, application_url=NO_SERVER, manage=manage, token="t")
        ) as context,
    ):
        finding = LmsReachesApplication().probe(context)
        fix = adapt(finding.fix, context)
    assert finding.seen.startswith("the application doesn't answer: ")
    assert "RuntimeError: no such setting" in finding.cause
    assert fix.startswith(f"start the application; it must answer at {NO_SERVER}")
    assert fix.endswith(f"(cd {tmp_path} && {sys.executable} manage.py check)")
