"""The comparison of an answer with a recording: what may differ and what may not."""

import copy
from typing import Any

import httpx
import pytest

from usher.embedded.replay.compare import KnownValues, differences

RECORDED: dict[str, Any] = {
    "status": 200,
    "headers": {
        "Content-Type": "application/json",
        "Allow": "GET, HEAD, OPTIONS",
        "Set-Cookie-Names": ["sessionid"],
    },
    "body": {
        "user_id": 6,
        "course_id": "course-v1:edX+DemoX+Demo_Course",
        "created": "2026-11-23T09:36:53.729478Z",
        "start": "2013-02-05T00:00:00Z",
        "percent": 0.0,
        "end": None,
        "active": True,
        "modes": [{"slug": "audit", "min_price": 0}],
    },
}
HEADERS = [
    ("Content-Type", "application/json"),
    ("Allow", "GET, HEAD, OPTIONS"),
    ("Set-Cookie", "sessionid=x; Path=/"),
]


def answer(status: int = 200, headers: Any = HEADERS, body: Any = None) -> httpx.Response:
    request = httpx.Request("GET", "http://lms.example/")
    body = RECORDED["body"] if body is None else body
    return httpx.Response(
        status, headers=headers, content=httpx.Response(200, json=body).content, request=request
    )


def test_equal_answers_agree() -> None:
    assert differences(RECORDED, answer(), KnownValues()) == []


def test_ids_and_moments_of_a_run_may_differ() -> None:
    body = {**RECORDED["body"], "user_id": 99, "created": "2030-01-01T00:00:00.000001Z"}
    assert differences(RECORDED, answer(body=body), KnownValues()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": "6"},
        {"created": "2030-01-01T00:00:00Z"},
        {"start": "2013-02-06T00:00:00Z"},
        {"course_id": "course-v1:edX+DemoX+Other"},
        {"percent": 0},
        {"end": ""},
        {"active": False},
        {"active": 1},
        {"modes": []},
        {"modes": [{"slug": "audit", "min_price": 1}]},
        {"modes": [{"slug": "audit"}]},
        {"more": 1},
    ],
)
def test_any_other_change_of_the_body_is_named(changed: dict[str, Any]) -> None:
    body = {**copy.deepcopy(RECORDED["body"]), **changed}
    assert len(differences(RECORDED, answer(body=body), KnownValues())) == 1


def test_a_missing_field_is_named() -> None:
    body = {key: value for key, value in RECORDED["body"].items() if key != "end"}
    assert differences(RECORDED, answer(body=body), KnownValues()) == ["body.end is missing"]


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Type", "text/html"), *HEADERS[1:]],
        [HEADERS[0], HEADERS[2]],
        HEADERS[:2],
        [*HEADERS, ("WWW-Authenticate", "Bearer")],
        [*HEADERS, ("Location", "/")],
        [*HEADERS, ("Set-Cookie", "csrftoken=x; Path=/")],
    ],
)
def test_a_header_that_matters_is_named(headers: list[tuple[str, str]]) -> None:
    assert len(differences(RECORDED, answer(headers=headers), KnownValues())) == 1


def test_another_status_is_named() -> None:
    assert differences(RECORDED, answer(status=201), KnownValues()) == ["status 200, here 201"]


def redirect(target: str) -> httpx.Response:
    request = httpx.Request("GET", "http://lms.example/")
    return httpx.Response(302, headers={"Location": target}, request=request)


START = "http://app.example/authorize/?client_id=a&state={0}&redirect_uri=http%3A%2F%2Flms%2F%3Fredirect_state%3D{0}"


def test_a_random_state_is_learned_for_later_requests() -> None:
    recorded = {"status": 302, "headers": {"Location": START.format("recorded")}, "body": ""}
    learned = KnownValues()
    assert differences(recorded, redirect(START.format("actually")), learned) == []
    assert learned.translate("/complete/?state=recorded") == "/complete/?state=actually"


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/authorize/?client_id=a&state=actually",
        START.format("actually").replace("client_id=a", "client_id=b"),
        START.format("actually").replace("%2Flms%2F", "%2Fother%2F"),
        START.format("actually") + "&more=1",
        START.format("short"),
    ],
)
def test_a_redirect_to_elsewhere_is_named(target: str) -> None:
    recorded = {"status": 302, "headers": {"Location": START.format("recorded")}, "body": ""}
    assert differences(recorded, redirect(target), KnownValues()) != []


def test_titles_of_pages_are_compared() -> None:
    recorded = {"status": 200, "headers": {}, "body": {"html": True, "title": "Dashboard | édX"}}
    request = httpx.Request("GET", "http://lms.example/")
    page = httpx.Response(
        200, content="<title>\n Dashboard | édX</title>".encode(), request=request
    )
    other = httpx.Response(200, content=b"<title>Login</title>", request=request)
    assert differences(recorded, page, KnownValues()) == []
    assert len(differences(recorded, other, KnownValues())) == 1
