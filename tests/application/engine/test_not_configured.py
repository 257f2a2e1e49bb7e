"""If no address of an LMS is set, nothing is sent, and each message says what to do."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.application.conftest import make_learner
from usher.application import conf
from usher.application.enrollments.services import enroll
from usher.application.lms_client import client as lms_client
from usher.application.models import CourseRun
from usher.client.connection import opened_by, over_the_network
from usher.client.errors import NotConfigured
from usher.testing.refusal import LmsTrafficRefused

ADVICE = "No LMS is configured: OPENEDX_API_BASE_URL is not set. Run `usher dev`"


@pytest.fixture
def no_lms_configured(transactional_db: None, settings: Any) -> Any:
    """No address of an LMS is set. Requests would go over the network, as in production, instead of
    being refused as in tests."""
    settings.USHER_EDITION = settings.OPENEDX_API_BASE_URL = ""
    with opened_by(over_the_network):
        yield


def test_unsent_requests_open_no_circuit_breaker(no_lms_configured: Any) -> None:
    for _ in range(25):  # more failures than open a circuit breaker
        with pytest.raises(NotConfigured, match="OPENEDX_API_BASE_URL is not set"):
            lms_client().confirm_lms()
    assert lms_client().http.health().open_circuits == {}


def output_of(*arguments: str) -> str:
    """The output and the error of a command, in one line."""
    out = StringIO()
    try:
        call_command(*arguments, stdout=out)
    except (SystemExit, CommandError) as error:
        out.write(str(error))
    return " ".join(out.getvalue().split())


def test_a_record_and_the_commands_say_that_no_lms_is_configured(no_lms_configured: Any) -> None:
    user = make_learner()
    run = CourseRun.objects.create(course_key="course-v1:edX+DemoX+Demo_Course")
    row = enroll(user, run, "audit", force=True, reconcile_now=True)
    assert ADVICE in row.error_message
    assert (user.lms_account.error_code, user.lms_account.attempts) == ("not-configured", 0)
    for arguments in (["why", user.email], ["reconcile", "--recheck"]):
        text = output_of(*arguments)
        assert ADVICE in text
        assert "http" not in text


def test_the_commands_say_how_to_load_the_settings_of_usher_dev(
    no_lms_configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".usher" / "dev" / "env"
    file.parent.mkdir(parents=True)
    file.touch()
    advice = "load its settings in this shell first: `. .usher/dev/env`"
    user = make_learner()
    enroll(user, CourseRun.objects.create(course_key="course-v1:edX+DemoX+Demo_Course"))
    for arguments in (["compare_learner", user.email], ["reconcile", "--recheck"]):
        text = output_of(*arguments)
        assert advice in text
        assert "Run `usher dev`" not in text


def test_the_error_about_traffic_in_tests_says_that_no_lms_is_configured() -> None:
    assert "and no LMS is configured; it was not sent" in str(LmsTrafficRefused(base_url=""))


def test_configure_instance_requires_the_lms_s_address(no_lms_configured: Any) -> None:
    with pytest.raises(CommandError, match="OPENEDX_API_BASE_URL is not set"):
        call_command("configure_instance", "none", "--dry-run", "--no-input")


def test_pages_and_the_api_answer_without_links_into_the_lms(
    no_lms_configured: Any, client: Any
) -> None:
    with pytest.raises(NotConfigured, match="OPENEDX_API_BASE_URL is not set"):
        conf.settings().sign_in_url()
    user = make_learner()
    run = CourseRun.objects.create(course_key="course-v1:edX+DemoX+Demo_Course")
    enroll(user, run, "audit")
    client.force_login(user)
    (enrollment,) = client.get("/api/v1/enrollments/").json()["results"]
    assert enrollment["url"] == ""
    for path in ("/dashboard/", f"/courses/{run.course_key}/"):
        page = client.get(path)
        assert page.status_code == 200
        assert "/auth/login/" not in page.content.decode()
