"""Errors that concern all learners: each says what happened and what to do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from usher.client.client import refusal
from usher.client.connection import opened_by
from usher.client.errors import (
    BadAnswer,
    LmsError,
    NotTheLms,
    TimedOut,
)
from usher.client.http import Answer, Http
from usher.client.payloads import read_account, reading
from usher.client.shared import LocalState
from usher.sidecar.errors import RequestFailed, explain
from usher.sidecar.public_accounts import _may_be_registering
from usher.sidecar.summary import FAILED, REFUSED, Summary


def error_of_answer(
    status: int, body: bytes = b"", content_type: str = "application/json"
) -> LmsError:
    """The client's error for an answer with this status, which is no success."""
    return refusal(Answer(status, httpx.Headers({"content-type": content_type}), body))


def error_of_requests(status: int, *, times: int = 1) -> LmsError:
    """The client's error at the last of ``times`` requests to an LMS that answers ``status``; 0 for
    an LMS that does not answer."""

    class Answers(httpx.MockTransport):
        deadline = 0.0  # an attribute of the client's own transport

    def answer(request: httpx.Request) -> httpx.Response:
        if not status:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(status, json={}, headers={"Retry-After": "1"})

    with opened_by(lambda base_url, ssl_context: Answers(answer)):
        http = Http("http://lms.example", state=LocalState())
        for _ in range(times):
            with pytest.raises(LmsError) as caught:
                http.request("POST", "/api/x", group="grades", json_body={})
    return caught.value


def error_of_unreadable_answer() -> LmsError:
    body: dict[str, str] = {}
    with pytest.raises(BadAnswer) as caught:
        reading("the owner of a token", lambda: body["username"])
    return caught.value


def error_of_html_page() -> LmsError:
    with pytest.raises(NotTheLms) as caught:
        Answer(200, httpx.Headers({"content-type": "text/html"}), b"<html>").json()
    return caught.value


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (
            error_of_answer(401, b'{"detail": "Token has expired."}'),
            "Run `usher connect` to renew it",
        ),
        (error_of_answer(403, b'{"detail": "Not allowed."}'), "Make the service worker staff"),
        (
            error_of_answer(404, b"<html>", content_type="text/html"),
            "Check OPENEDX_API_BASE_URL",
        ),
        (NotTheLms("What answers has no accounts: it is not the LMS."), "--lms-url"),
        (error_of_html_page(), "Check OPENEDX_API_BASE_URL"),
        (error_of_unreadable_answer(), "usher doctor"),
        (error_of_requests(502), "--lms-url"),
        (error_of_requests(0), "--lms-url"),
        (TimedOut("The LMS did not answer within 60 s."), "--concurrency"),
        (error_of_requests(503, times=30), "--concurrency"),  # the circuit breaker has opened
        (error_of_requests(429), "--concurrency"),
    ],
)
def test_every_error_says_what_happened_and_what_to_do(error: LmsError, next_step: str) -> None:
    explanation = explain(error)
    assert explanation.startswith(error.message.rstrip(". "))
    assert next_step in explanation
    assert explanation.endswith(".")
    assert explanation.count("OPENEDX_API_BASE_URL") <= 1  # the advice does not repeat the error


def test_refusals_and_failures_have_request_ids() -> None:
    summary = Summary()
    answer = {
        "status": "refused",
        "error": {"code": "mode-unavailable", "message": "No such mode"},
        "request_id": "abc",
    }
    summary.add_result("enrollment", REFUSED, "ada in a run", answer)
    summary.add_error("account", "bob", BadAnswer("Half.", code="half").with_request_id("def"))
    refused, failed = summary.reasons
    assert (refused["reason"], refused["code"], refused["request_id"]) == (
        "No such mode (mode-unavailable)",
        "mode-unavailable",
        "abc",
    )
    assert (failed["result"], failed["code"], failed["request_id"]) == (FAILED, "half", "def")


@pytest.mark.parametrize(("minutes", "is_new"), [(0.1, True), (9, True), (11, False)])
def test_an_account_counts_as_new_for_ten_minutes(minutes: float, is_new: bool) -> None:
    joined = datetime.now(UTC) - timedelta(minutes=minutes)
    account = replace(read_account({"username": "ada"}), date_joined=joined)
    assert _may_be_registering(account) is is_new


def test_an_error_of_several_lines_is_printed_as_one_line() -> None:
    output = "OperationalError: connection failed: refused\n\tIs the server running?\n"
    assert "refused Is the server running? Its database did not answer" in str(
        RequestFailed("MIT xPro", "failed", output)
    )
    # The full stop of an error of one line is not doubled.
    assert "KeyError: 'a'. The next run" in str(
        RequestFailed("MIT xPro", "failed", "KeyError: 'a'.")
    )
