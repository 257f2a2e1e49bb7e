"""A difference counts as a deviation only if Usher depends on the part that differs."""

from dataclasses import replace

import httpx

from usher.doctor.conformance.checking import CheckedExpectation, ExpectationChecker
from usher.doctor.conformance.expectations import Expectation, load


def check_one(name: str, status: int, **headers: str) -> CheckedExpectation:
    """Checks the expectation ``name`` against an answer with this status. headers: those that
    differ from the expected ones. The body always agrees."""
    expectation: Expectation = next(each for each in load() if each.id == name)
    expected_headers = {header: value for header, value in expectation.headers.items() if value}
    all_headers = {**expected_headers, **headers}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=all_headers, json={})

    client = httpx.Client(base_url="http://lms.example", transport=httpx.MockTransport(answer))
    without_body = replace(expectation, body="<any>")
    values = {"course": "course-v1:edX+DemoX+Demo_Course", "worker": "w"}
    tokens = {"learner": "l", "worker": "w"}
    (outcome,) = ExpectationChecker(client, values=values, tokens=tokens).check(
        (without_body,), write=True
    )
    return outcome


def test_an_expectation_of_a_disabled_endpoint_is_unknown() -> None:
    outcome = check_one("bulk-enroll-learner", status=404)
    assert outcome.verdict == "unknown"
    assert "ENABLE_BULK_ENROLLMENT_VIEW" in outcome.reasons[0]
    # 403 is the expected status.
    assert check_one("bulk-enroll-learner", status=403).verdict == "agrees"
    assert check_one("bulk-enroll-learner", status=500).verdict == "deviates"


def test_a_missing_method_is_a_deviation_and_an_additional_method_is_none() -> None:
    for allow in ("POST, OPTIONS", "GET, OPTIONS, POST"):
        assert check_one("bulk-enroll-learner", status=403, Allow=allow).verdict == "agrees"
    outcome = check_one("bulk-enroll-learner", status=403, Allow="GET, OPTIONS")
    assert outcome.verdict == "deviates"
    assert "no POST" in outcome.reasons[0]
