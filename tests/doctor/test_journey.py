"""What a journey leaves behind if the LMS stops answering."""

from types import SimpleNamespace
from typing import Any

from tests.doctor.small_server import NO_SERVER
from usher.doctor.check import Status
from usher.doctor.context import Context
from usher.doctor.facts.application import Application
from usher.doctor.facts.lms import Lms
from usher.doctor.facts.web import Web
from usher.doctor.journey import journey_line


def test_a_journey_to_an_lms_that_does_not_answer_fails_and_names_the_account() -> None:
    session = {"cookie": "sessionid", "session": "key"}
    manage: Any = SimpleNamespace(json=lambda *_, stdin: session)
    web = Web()
    application = Application(web, "http://application.example", manage=manage)
    with Context(Lms(web, NO_SERVER, token="token"), application, web=web) as context:
        finding = journey_line(context).finding
    assert finding.status is Status.FAILED
    assert f"{NO_SERVER}/" in finding.seen
    assert "may still be in the LMS" in finding.seen
