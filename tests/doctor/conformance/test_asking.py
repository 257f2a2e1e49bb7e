"""Only differences that Usher depends on count as deviations."""

from dataclasses import replace

import httpx

from usher.doctor.conformance.asking import Conversation
from usher.doctor.conformance.expectations import Expectation, load


def asked(name: str, status: int, **headers: str) -> tuple[str, tuple[str, ...]]:
    expectation: Expectation = next(one for one in load() if one.id == name)
    shown = {**{k: v for k, v in expectation.headers.items() if v}, **headers}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=shown, json={})

    client = httpx.Client(base_url="http://lms.example", transport=httpx.MockTransport(answer))
    plain = replace(expectation, body="<any>")
    values = {"course": "course-v1:edX+DemoX+Demo_Course", "worker": "w"}
    tokens = {"learner": "l", "worker": "w"}
    (outcome,) = Conversation(client, values=values, tokens=tokens).ask((plain,), write=True)
    return outcome.verdict, outcome.reasons


def test_an_expectation_that_a_setting_switches_off_is_unknown() -> None:
    verdict, reasons = asked("bulk-enroll-learner", 404)
    assert verdict == "unknown"
    assert "ENABLE_BULK_ENROLLMENT_VIEW" in reasons[0]
    assert asked("bulk-enroll-learner", 403)[0] == "agrees"
    assert asked("bulk-enroll-learner", 500)[0] == "deviates"


def test_an_additional_method_is_no_deviation_a_missing_one_is() -> None:
    ways = {allow: asked("bulk-enroll-learner", 403, Allow=allow) for allow in
            ("POST, OPTIONS", "GET, OPTIONS, POST", "GET, OPTIONS")}  # fmt: skip
    assert [verdict for verdict, _ in ways.values()] == ["agrees", "agrees", "deviates"]
    assert "no POST" in ways["GET, OPTIONS"][1][0]
