"""Which differences between an answer and a recording are reported, and which are allowed."""

import copy
from typing import Any

import httpx
import pytest

from usher.embedded.replay.compare import KnownValues, find_differences

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
CONTENT_TYPE = ("Content-Type", "application/json")
ALLOW = ("Allow", "GET, HEAD, OPTIONS")
COOKIE = ("Set-Cookie", "sessionid=x; Path=/")
HEADERS = [CONTENT_TYPE, ALLOW, COOKIE]


def answer(status: int = 200, headers: Any = HEADERS, body: Any = None) -> httpx.Response:
    """An answer that agrees with ``RECORDED`` except for the given parts."""
    request = httpx.Request("GET", "http://lms.example/")
    body = RECORDED["body"] if body is None else body
    return httpx.Response(
        status, headers=headers, content=httpx.Response(200, json=body).content, request=request
    )


def test_equal_answers_agree() -> None:
    assert find_differences(RECORDED, answer(), KnownValues()) == []


def test_ids_and_creation_times_may_differ() -> None:
    body = {**RECORDED["body"], "user_id": 99, "created": "2030-01-01T00:00:00.000001Z"}
    assert find_differences(RECORDED, answer(body=body), KnownValues()) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"user_id": "6"},  # text, not a number
        {"created": "2030-01-01T00:00:00Z"},  # without microseconds
        {"start": "2013-02-06T00:00:00Z"},
        {"course_id": "course-v1:edX+DemoX+Other"},
        {"percent": 0},  # an integer
        {"end": ""},
        {"active": False},
        {"active": 1},  # a number, which equals True in Python
        {"modes": []},
        {"modes": [{"slug": "audit", "min_price": 1}]},
        {"modes": [{"slug": "audit"}]},
        {"more": 1},
    ],
)
def test_a_difference_in_any_other_value_of_the_body_is_reported(changed: dict[str, Any]) -> None:
    body = {**copy.deepcopy(RECORDED["body"]), **changed}
    assert len(find_differences(RECORDED, answer(body=body), KnownValues())) == 1


def test_a_missing_field_of_the_body_is_reported() -> None:
    body = {key: value for key, value in RECORDED["body"].items() if key != "end"}
    assert find_differences(RECORDED, answer(body=body), KnownValues()) == ["body.end is missing"]


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Type", "text/html"), ALLOW, COOKIE],
        [CONTENT_TYPE, COOKIE],  # no Allow
        [CONTENT_TYPE, ALLOW],  # no cookie
        [*HEADERS, ("WWW-Authenticate", "Bearer")],
        [*HEADERS, ("Location", "/")],
        [*HEADERS, ("Set-Cookie", "csrftoken=x; Path=/")],
    ],
)
def test_a_difference_in_a_compared_header_is_reported(headers: list[tuple[str, str]]) -> None:
    assert len(find_differences(RECORDED, answer(headers=headers), KnownValues())) == 1


def test_a_different_status_is_reported() -> None:
    assert find_differences(RECORDED, answer(status=201), KnownValues()) == ["status 200, here 201"]


def redirect(target: str) -> httpx.Response:
    request = httpx.Request("GET", "http://lms.example/")
    return httpx.Response(302, headers={"Location": target}, request=request)


#: A redirect to the application, with the place of the state, which is random.
AUTHORIZE_URL = "http://app.example/authorize/?client_id=a&state={0}&redirect_uri=http%3A%2F%2Flms%2F%3Fredirect_state%3D{0}"


def test_later_requests_send_the_actual_state_in_place_of_the_recorded_state() -> None:
    recorded = {
        "status": 302,
        "headers": {"Location": AUTHORIZE_URL.format("recorded")},
        "body": "",
    }
    known_values = KnownValues()
    assert (
        find_differences(recorded, redirect(AUTHORIZE_URL.format("actually")), known_values) == []
    )
    assert known_values.translate("/complete/?state=recorded") == "/complete/?state=actually"


@pytest.mark.parametrize(
    "target",
    [
        "http://evil.example/authorize/?client_id=a&state=actually",
        AUTHORIZE_URL.format("actually").replace("client_id=a", "client_id=b"),
        AUTHORIZE_URL.format("actually").replace("%2Flms%2F", "%2Fother%2F"),
        AUTHORIZE_URL.format("actually") + "&more=1",
        AUTHORIZE_URL.format("short"),  # a state of another length
    ],
)
def test_a_redirect_to_a_different_url_is_reported(target: str) -> None:
    recorded = {
        "status": 302,
        "headers": {"Location": AUTHORIZE_URL.format("recorded")},
        "body": "",
    }
    assert find_differences(recorded, redirect(target), KnownValues()) != []


def test_titles_of_pages_are_compared() -> None:
    recorded = {"status": 200, "headers": {}, "body": {"html": True, "title": "Dashboard | édX"}}
    request = httpx.Request("GET", "http://lms.example/")
    page = httpx.Response(
        200, content="<title>\n Dashboard | édX</title>".encode(), request=request
    )
    other = httpx.Response(200, content=b"<title>Login</title>", request=request)
    assert find_differences(recorded, page, KnownValues()) == []
    assert len(find_differences(recorded, other, KnownValues())) == 1
