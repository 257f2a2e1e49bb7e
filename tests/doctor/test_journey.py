"""What a journey reports that it could not remove."""

from types import SimpleNamespace
from typing import Any

from tests.doctor.small_server import NO_SERVER, serving
from usher.doctor.check import Finding, Status
from usher.doctor.context import Context
from usher.doctor.facts.application import Application
from usher.doctor.facts.lms import Lms
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import Web
from usher.doctor.journey import journey_line


def make_learner_only(*_: object, stdin: str) -> dict[str, str]:
    """The application's ``manage.py``, which fails when it is to remove the learner."""
    if "STEP = 'remove'" in stdin:
        raise NotKnownError("manage.py failed")
    return {"cookie": "sessionid", "session": "key"}


def make_and_remove_learner(*_: object, stdin: str) -> dict[str, str]:
    return {"cookie": "sessionid", "session": "key"}


def journey_finding(lms_url: str, run_manage: Any) -> Finding:
    """The finding of a journey that fails at the sign-in."""
    web = Web()
    manage: Any = SimpleNamespace(json=run_manage)
    application = Application(web, "http://application.example", manage=manage)
    with Context(Lms(web, lms_url, token="token"), application, web=web) as context:
        return journey_line(context).finding


def test_a_journey_to_an_lms_that_does_not_answer_fails_and_names_the_account() -> None:
    finding = journey_finding(NO_SERVER, make_and_remove_learner)
    assert finding.status is Status.FAILED
    assert f"{NO_SERVER}/" in finding.seen
    assert "may still be in the LMS" in finding.seen


def test_a_journey_names_the_account_that_a_failing_lms_does_not_show() -> None:
    with serving({}) as lms_without_account:
        assert (
            "may still be" not in journey_finding(lms_without_account, make_and_remove_learner).seen
        )
    with serving({}, other_paths=503) as failing_lms:
        finding = journey_finding(failing_lms, make_and_remove_learner)
    assert "may still be in the LMS, which answered 503" in finding.seen


def test_a_failed_journey_names_the_learner_that_the_application_did_not_remove() -> None:
    finding = journey_finding(NO_SERVER, make_learner_only)
    assert finding.status is Status.FAILED
    assert "may still be in the application: manage.py failed" in finding.seen
