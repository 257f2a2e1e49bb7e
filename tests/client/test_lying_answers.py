"""Each answer of a hostile or broken server becomes an error of the client, and no error shows a
secret."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.client.test_http import _Raw
from usher.client import batch
from usher.client.authorization import AuthorizationFlow
from usher.client.client import Credentials, LmsClient
from usher.client.connection import opened_by
from usher.client.errors import (
    AccessRefused,
    BadAnswer,
    LmsError,
    Misconfigured,
    NotTheLms,
    ServerFailed,
    Throttled,
)
from usher.client.http import Http
from usher.client.payloads import moment, read_account, read_run
from usher.client.registration import register
from usher.client.shared import LocalState
from usher.contract.failures import FailureClass

SECRET = "sw-secret-token"
Answering = Callable[[httpx.Request], httpx.Response]


class _Opened(httpx.MockTransport):
    """A connection whose answers come from a function."""

    deadline = 0.0


@contextmanager
def lms(answering: Answering, token: str = SECRET) -> Iterator[LmsClient]:
    who = Credentials("worker", token, "id", "secret", "mitxpro-oauth2")
    with opened_by(lambda *_: _Opened(answering)):
        yield LmsClient(Http("http://lms.example", state=LocalState()), who)


def says(body: Any, status: int = 200, **headers: str) -> Answering:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"Content-Type": "application/json"} | headers
    return lambda request: httpx.Response(
        status, headers=all_headers, content=content, request=request
    )


@pytest.mark.parametrize(
    "value", ["²", "1e400", "-5", "nan", "٣", "9" * 400, "12, 13", "Wed, 21 Oct 2099 07:28:00 GMT"]
)
@pytest.mark.parametrize(("status", "error"), [(429, Throttled), (503, ServerFailed)])
def test_a_malformed_retry_after_is_replaced_by_a_guess(
    status: int, error: type[LmsError], value: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=[(b"Retry-After", value.encode())], content=b"{}")

    with lms(answer) as client, pytest.raises(error) as caught:
        client.run_modes("course-v1:a+b+c")
    assert (caught.value.retry_after or 0) <= 60


def test_retry_after_is_at_most_an_hour() -> None:
    answer = says({}, 503, **{"Retry-After": "604800"})
    with lms(answer) as client, pytest.raises(ServerFailed) as caught:
        client.run_modes("course-v1:a+b+c")
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("location", ["http://[", "//[x", "http://lms.example//evil.example/"])
def test_a_redirect_to_an_invalid_address_is_refused(location: str) -> None:
    with lms(says({})) as client:
        assert client.http.own_path(location) is None


def test_a_session_that_can_t_be_sent_back_is_left_out() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        cookies = (b"sessionid=\xc3\xbc", b"good=1; Path=/", b"other=a\x01b")
        return httpx.Response(200, headers=[(b"Set-Cookie", cookie) for cookie in cookies])

    with lms(answer) as client:
        assert client.http.request("GET", "/").cookies() == {"good": "1"}


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET}\r\nX: y", f"{SECRET} ", f"{SECRET}ü"])
def test_a_token_that_no_header_holds_is_named_and_not_shown(token: str) -> None:
    with lms(says({}), token) as client, pytest.raises(Misconfigured) as caught:
        client.run_modes("course-v1:a+b+c")
    assert SECRET not in str(caught.value)
    assert "OPENEDX_SERVICE_WORKER_API_TOKEN" in str(caught.value)


def test_the_http_library_s_message_about_a_header_is_not_repeated() -> None:
    """The library's message contains the header, and the header contains a session id."""
    server = _Raw(b"")
    http = Http(server.url, state=LocalState())
    with pytest.raises(LmsError) as caught:
        http.request("GET", "/", cookies={"sessionid": f"{SECRET}\n"}, again=False)
    assert SECRET not in str(caught.value)


def packed(body: bytes, *layers: Callable[[bytes], bytes]) -> bytes:
    for layer in layers:
        body = layer(body)
    return body


BIG = b" " * 40_000_000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip, gzip", packed(BIG, gzip.compress, gzip.compress)),
        ("gzip", packed(BIG, gzip.compress)),
        ("deflate", packed(BIG, zlib.compress)),
        ("br", b"\x00"),
        ("gzip", gzip.compress(b'{"results": []}')[:-9]),
        ("gzip", b"no gzip"),
    ],
    # Without ids, pytest would name the tests by their data, and gzip's data contains the current
    # time.
    ids=["gzip twice", "gzip", "deflate", "unknown", "cut off", "not compressed"],
)
def test_compression_expands_no_further_than_the_limit(encoding: str, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    server = _Raw(head % (encoding.encode(), len(body)), body)
    with pytest.raises(BadAnswer):
        Http(server.url, timeout=60.0, state=LocalState()).request("GET", "/", again=False)


def test_one_layer_of_compression_is_read() -> None:
    body = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = Http(_Raw(head, body).url, state=LocalState()).request("GET", "/")
    assert answer.json() == {"a": 1}


@pytest.mark.parametrize(
    "following",
    [
        "http://lms.example/api/other/?page=2",
        "http://evil.example/",
        "http://[",
        "/api/enrollment/v1/enrollments",
        ["a list"],
        7,
    ],
)
def test_half_a_list_is_never_a_whole_one(following: Any) -> None:
    with lms(says({"results": [], "next": following})) as client, pytest.raises(BadAnswer):
        list(client.enrollments_of(["ada"]))


def test_of_the_next_page_only_the_query_counts() -> None:
    """An LMS behind a proxy may not know its public scheme and host, so the URL of the next page
    may be wrong."""
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        path = request.url.path
        following = f"https://inner:8000{path}?cursor=abc%3D&username=ada"
        row = {"user": "ada", "course_id": "course-v1:a+b+c", "mode": "audit", "is_active": True}
        page = {"results": [row], "next": following if len(asked) == 1 else None}
        return httpx.Response(200, json=page)

    with lms(answer) as client:
        assert len(list(client.enrollments_of(["ada"]))) == 2
    assert {url.host for url in asked} == {"lms.example"}
    assert asked[1].params["cursor"] == "abc="


def test_characters_that_databases_reject_are_removed_from_messages() -> None:
    answer = says(b'{"detail": "nul \\u0000 and half \\ud800", "error_code": "a\\u0000"}', 403)
    with lms(answer) as client, pytest.raises(AccessRefused) as caught:
        client.run_modes("course-v1:a+b+c")
    for text in (caught.value.message, caught.value.code, str(caught.value)):
        text.encode()
        assert "\0" not in text


@pytest.mark.parametrize("body", [b'{"results": NaN}', b"[Infinity]", b"-Infinity"])
def test_numbers_that_json_lacks(body: bytes) -> None:
    with lms(says(body)) as client, pytest.raises(BadAnswer):
        client.run_modes("course-v1:a+b+c")


@pytest.mark.parametrize("value", ["false", 0, 1, None, [], "no"])
def test_only_true_and_false_say_whether_somebody_is_active(value: Any) -> None:
    with pytest.raises(LmsError):
        read_account({"username": "ada", "is_active": value})


@pytest.mark.parametrize("value", [{"a": 1}, [["x"]], True])
def test_a_title_is_a_text(value: Any) -> None:
    with pytest.raises(LmsError):
        read_run({"course_id": "course-v1:a+b+c", "name": value})


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59"])
def test_moments_at_the_ends_of_the_calendar_can_be_shown_everywhere(value: str) -> None:
    result = moment(value)
    assert result is not None
    for place in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        result.astimezone(ZoneInfo(place))


PAGE = b"<!doctype html><title>Bad Request</title>"
WORKER = [{"username": "worker", "is_active": True}]


def bad_page(request: httpx.Request) -> httpx.Response:
    """An HTML error page of a proxy, or of Django if the session can't be saved."""
    return httpx.Response(400, headers={"Content-Type": "text/html"}, content=PAGE)


def registering(client: LmsClient) -> None:
    register(client, username="ada", email="a@b.org", name="Ada", country="", access_token="t")


def test_a_page_in_place_of_a_registration_is_about_that_learner_only() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return bad_page(request) if request.method == "POST" else httpx.Response(200, json=WORKER)

    with lms(answer) as client, pytest.raises(BadAnswer) as caught:
        registering(client)
    assert caught.value.failure_class is FailureClass.TRANSIENT
    assert caught.value.request_id


def test_a_server_that_answers_everything_with_a_page_is_not_the_lms() -> None:
    with lms(bad_page) as client, pytest.raises(NotTheLms):
        registering(client)


def test_a_page_with_403_is_not_the_lms_s_refusal_of_the_service_worker() -> None:
    page = says(b"<h1>403 Forbidden</h1><hr>nginx", 403, **{"Content-Type": "text/html"})
    with lms(page) as client, pytest.raises(NotTheLms, match="403, text/html"):
        client.run_modes("course-v1:a+b+c")


def test_a_proxy_that_asks_for_a_password_is_not_taken_for_a_closed_registration() -> None:
    """The registration API needs no token, so only a proxy can have answered with 401."""
    with lms(says({"detail": "no"}, 401)) as client, pytest.raises(AccessRefused) as caught:
        registering(client)
    assert "proxy" in caught.value.message
    assert "ALLOW_PUBLIC_ACCOUNT_CREATION" not in caught.value.message
    with lms(says({"detail": "no"}, 403)) as client, pytest.raises(AccessRefused) as caught:
        registering(client)
    assert "ALLOW_PUBLIC_ACCOUNT_CREATION" in caught.value.message


def test_a_sign_in_whose_session_the_lms_could_not_save_is_started_again() -> None:
    completed: list[httpx.Response] = []
    there = "http://lms.example"

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/auth/login/"):
            back = f"{there}/auth/complete/mitxpro-oauth2/"
            asked = urlencode({"response_type": "code", "state": "s", "redirect_uri": back})
            return httpx.Response(302, headers={"Location": f"http://app.example/?{asked}"})
        if path.startswith("/auth/complete/"):
            good = httpx.Response(302, headers={"Location": f"{there}/oauth2/authorize?a=b"})
            completed.append(good if completed else bad_page(request))
            return completed[-1]
        if path == "/oauth2/authorize":
            return httpx.Response(302, headers={"Location": "http://app.example/done?code=c"})
        if path == "/oauth2/access_token":
            return httpx.Response(200, json=TOKENS)
        return httpx.Response(200, json=WORKER)

    with lms(answer) as client:
        flow = AuthorizationFlow(client, 1, "http://app.example/done", lambda _: "ours")
        assert flow.tokens().access_token == "access"
    assert len(completed) == 2


@pytest.mark.parametrize(("works", "error"), [(True, Misconfigured), (False, ServerFailed)])
def test_only_an_lms_that_works_otherwise_shows_a_wrong_provider_record(
    works: bool, error: type[LmsError]
) -> None:
    """An LMS whose database is down answers every request with 500, whatever the provider record
    is."""

    def answer(request: httpx.Request) -> httpx.Response:
        shows_accounts = works and request.url.path == "/api/user/v1/accounts"
        return httpx.Response(200, json=WORKER) if shows_accounts else httpx.Response(500)

    with lms(answer) as client, pytest.raises(error):
        registering(client)


TOKENS = {"access_token": "access", "refresh_token": "refresh", "expires_in": 3600}
RESULTS: dict[str, Any] = {
    "another status": {"status": "done"},
    "a status that is no text": {"status": ["refused"]},
    "refused without a reason": {"status": "refused"},
    "a reason that is a text": {"status": "refused", "error": "no"},
    "a reason that is a list": {"status": "refused", "error": ["no"]},
    "a code that is an object": {"status": "refused", "error": {"code": {}}},
    "suggestions that are a number": {"status": "refused", "error": {"suggestions": 5}},
    "fields that are a list": {"status": "refused", "error": {"fields": ["x"]}},
    "a reason and a success": {"status": "created", "error": {"code": "x"}},
}


@pytest.mark.parametrize("what", RESULTS)
def test_a_malformed_batch_result_does_not_fail_the_batch(what: str) -> None:
    good = {"id": 2, "status": "created", "error": None}
    with lms(says({"results": [{"id": 1} | RESULTS[what], good]})) as client:
        results = batch.send(client, batch.ACCOUNTS, [{"id": 1}, {"id": 2}])
    with pytest.raises(LmsError):
        batch.result_of(results, 1)
    assert batch.result_of(results, 2)["status"] == "created"


NOW = "2026-01-01T00:00:00Z"


@pytest.mark.parametrize(
    "body",
    [
        {"results": {}, "next": None, "now": NOW},
        {"results": [], "next": None, "now": "soon"},
        {"results": [], "next": None, "now": None},
        {"results": [], "next": None, "now": 20260101},
        {"results": [], "next": None, "now": "9999-12-31T00:00:00Z"},
        {"results": [], "next": "c" * 100_000, "now": NOW},
        {"results": [{}] * 50_000, "next": None, "now": NOW},
    ],
)
def test_changes_of_another_shape_are_not_taken(body: Any) -> None:
    """The client uses values of this answer in its next request."""
    with lms(says(body)) as client, pytest.raises(LmsError):
        batch.changed_since(client, batch.ACCOUNTS, None)


@pytest.mark.parametrize(
    "outbox", [{"waiting": 10**400, "oldest_seconds": 1}, {"waiting": 1, "oldest_seconds": -5}, []]
)
def test_an_outbox_that_no_metric_holds(outbox: Any) -> None:
    with lms(says({"capabilities": [], "outbox": outbox})) as client, pytest.raises(LmsError):
        batch.outbox(client)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"field_errors": {"name": {"developer_message": "Too long."}}}),
        (400, {"name": ["Too long."]}),
        (404, {"developer_message": {"name": ["Too long."]}}),
        (403, {"detail": {"error_code": "no", "developer_message": "name: Too long."}}),
        (400, {"name": [{"user_message": "Too long."}]}),
    ],
)
@pytest.mark.parametrize("request_of", ["account", "enroll", "register"])
def test_a_refusal_is_its_sentence_and_not_json(status: int, body: Any, request_of: str) -> None:
    with lms(says(body, status)) as client, pytest.raises(LmsError) as error:
        if request_of == "account":
            client.change_account("ann", {"name": "Ann"}, "token")
        elif request_of == "enroll":
            client.enroll("ann", "course-v1:a+b+c", mode="audit", is_active=True)
        else:
            details = {"email": "ann@example.org", "name": "Ann", "country": ""}
            register(client, username="ann", access_token="token", **details)
    if status == 404 and request_of != "account":
        return  # these endpoints never refuse with 404
    assert "name: Too long." in error.value.message
    assert "{" not in error.value.message


def test_an_invalid_item_of_a_batch_is_named_in_words() -> None:
    body = {"items": [{"mode": [{"developer_message": "Too long."}]}]}
    with lms(says(body, 400)) as client:
        results = batch.send(client, batch.ENROLLMENTS, [{"id": 1}])
    assert batch.result_of(results, 1)["error"]["message"] == "mode: Too long."
