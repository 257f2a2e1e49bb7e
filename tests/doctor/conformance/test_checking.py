"""A difference counts as a deviation only if Usher depends on the part that differs."""

from dataclasses import replace

import httpx

from usher.doctor.conformance.checking import ExpectationChecker
from usher.doctor.conformance.expectations import Expectation, load


def check_one(name: str, status: int, **headers: str) -> tuple[str, tuple[str, ...]]:
    expectation: Expectation = next(one for one in load() if one.id == name)
    all_headers = {**{k: v for k, v in expectation.headers.items() if v}, **headers}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=all_headers, json={})

    client = httpx.Client(base_url="http://lms.example", transport=httpx.MockTransport(answer))
    without_body = replace(expectation, body="<any>")
    values = {"course": "course-v1:edX+DemoX+Demo_Course", "worker": "w"}
    tokens = {"learner": "l", "worker": "w"}
    (outcome,) = ExpectationChecker(client, values=values, tokens=tokens).check(
        (without_body,), write=True
    )
    return outcome.verdict, outcome.reasons


def test_an_expectation_of_a_disabled_endpoint_is_unknown() -> None:
    verdict, reasons = check_one("bulk-enroll-learner", 404)
    assert verdict == "unknown"
    assert "ENABLE_BULK_ENROLLMENT_VIEW" in reasons[0]
    assert check_one("bulk-enroll-learner", 403)[0] == "agrees"
    assert check_one("bulk-enroll-learner", 500)[0] == "deviates"


def test_a_missing_method_is_a_deviation_and_an_additional_method_is_none() -> None:
    results = {allow: check_one("bulk-enroll-learner", 403, Allow=allow) for allow in
            ("POST, OPTIONS", "GET, OPTIONS, POST", "GET, OPTIONS")}  # fmt: skip
    assert [verdict for verdict, _ in results.values()] == ["agrees", "agrees", "deviates"]
    assert "no POST" in results["GET, OPTIONS"][1][0]
