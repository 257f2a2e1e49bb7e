"""Each answer of a hostile or broken server becomes an error of the client, and no error shows a
secret."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.client.test_http import RawServer
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
    Refused,
    ServerFailed,
    Throttled,
)
from usher.client.http import Http
from usher.client.payloads import moment, read_account, read_run
from usher.client.registration import register
from usher.client.shared import LocalState
from usher.contract.failures import FailureClass

SECRET = "sw-secret-token"
AnswerFunction = Callable[[httpx.Request], httpx.Response]


@contextmanager
def lms(answer: AnswerFunction, token: str = SECRET) -> Iterator[LmsClient]:
    """Yields a client whose requests ``answer`` answers. token: the service worker's."""
    credentials = Credentials(
        service_worker="worker",
        service_token=token,
        client_id="id",
        client_secret="secret",
        backend="mitxpro-oauth2",
    )
    with opened_by(lambda *_: httpx.MockTransport(answer)):
        yield LmsClient(Http("http://lms.example", state=LocalState()), credentials)


def answers_with(body: Any, status: int = 200, **headers: str) -> AnswerFunction:
    """A function for ``lms`` that answers every request with ``body``, as JSON unless it is
    bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = {"Content-Type": "application/json"} | headers
    return lambda request: httpx.Response(
        status, headers=all_headers, content=content, request=request
    )


@pytest.mark.parametrize(
    "value", ["²", "1e400", "-5", "nan", "٣", "9" * 400, "12, 13", "Wed, 21 Oct 2099 07:28:00 GMT"]
)
@pytest.mark.parametrize(("status", "error"), [(429, Throttled), (503, ServerFailed)])
def test_a_retry_after_that_is_not_understood_is_replaced_by_a_guess(
    status: int, error: type[LmsError], value: str
) -> None:
    """The client understands a number of seconds of up to nine digits. It understands no date,
    although HTTP allows dates."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=[(b"Retry-After", value.encode())], content=b"{}")

    with lms(answer) as client, pytest.raises(error) as caught:
        client.run_modes("course-v1:a+b+c")
    assert (caught.value.retry_after or 0) <= 60, "None or the client's own guess"


def test_a_retry_after_of_a_week_is_shortened_to_an_hour() -> None:
    answer = answers_with({}, 503, **{"Retry-After": "604800"})
    with lms(answer) as client, pytest.raises(ServerFailed) as caught:
        client.run_modes("course-v1:a+b+c")
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("location", ["http://[", "//[x", "http://lms.example//evil.example/"])
def test_a_redirect_to_an_invalid_address_is_no_path_of_the_lms(location: str) -> None:
    with lms(answers_with({})) as client:
        assert client.http.own_path(location) is None


def test_a_cookie_with_characters_that_can_t_be_sent_is_left_out() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        cookies = (b"sessionid=\xc3\xbc", b"good=1; Path=/", b"other=a\x01b")
        return httpx.Response(200, headers=[(b"Set-Cookie", cookie) for cookie in cookies])

    with lms(answer) as client:
        assert client.http.request("GET", "/").cookies() == {"good": "1"}


@pytest.mark.parametrize("token", [f"{SECRET}\n", f"{SECRET}\r\nX: y", f"{SECRET} ", f"{SECRET}ü"])
def test_the_error_for_a_token_that_can_t_be_sent_names_the_setting_and_not_the_token(
    token: str,
) -> None:
    with lms(answers_with({}), token) as client, pytest.raises(Misconfigured) as caught:
        client.run_modes("course-v1:a+b+c")
    assert SECRET not in str(caught.value)
    assert "OPENEDX_SERVICE_WORKER_API_TOKEN" in str(caught.value)


def test_the_error_for_a_malformed_cookie_does_not_show_the_cookie() -> None:
    """The message of the HTTP library contains the whole header."""
    server = RawServer(b"")
    http = Http(server.url, state=LocalState())
    with pytest.raises(LmsError) as caught:
        http.request("GET", "/", cookies={"sessionid": f"{SECRET}\n"}, again=False)
    assert SECRET not in str(caught.value)


#: A body that is larger than the client reads, and small when it is compressed.
BIG = b" " * 40_000_000


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip, gzip", gzip.compress(gzip.compress(BIG))),
        ("gzip", gzip.compress(BIG)),
        ("deflate", zlib.compress(BIG)),
        ("br", b"\x00"),
        ("gzip", gzip.compress(b'{"results": []}')[:-9]),  # without its end
        ("gzip", b"no gzip"),
    ],
    # Without ids, pytest would name the tests by their data, and gzip's data contains the current
    # time.
    ids=["gzip twice", "gzip", "deflate", "unknown", "cut off", "not compressed"],
)
def test_a_compressed_answer_that_is_too_large_or_malformed_is_refused(
    encoding: str, body: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
    server = RawServer(head % (encoding.encode(), len(body)), body)
    with pytest.raises(BadAnswer):
        Http(server.url, timeout=60.0, state=LocalState()).request("GET", "/", again=False)


def test_an_answer_compressed_once_is_read() -> None:
    body = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer = Http(RawServer(head, body).url, state=LocalState()).request("GET", "/")
    assert answer.json() == {"a": 1}


@pytest.mark.parametrize(
    "next_url",
    [
        "http://lms.example/api/other/?page=2",
        "http://evil.example/",
        "http://[",
        "/api/enrollment/v1/enrollments",
        ["a list"],
        7,
    ],
)
def test_a_list_whose_next_page_has_another_path_is_refused(next_url: Any) -> None:
    with lms(answers_with({"results": [], "next": next_url})) as client, pytest.raises(BadAnswer):
        list(client.enrollments_of(["ada"]))


def test_only_the_query_of_the_next_page_s_address_is_used() -> None:
    """An LMS behind a proxy may not know its public scheme and host, so the URL of the next page
    may be wrong."""
    requested_urls: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requested_urls.append(request.url)
        path = request.url.path
        next_url = f"https://inner:8000{path}?cursor=abc%3D&username=ada"
        row = {"user": "ada", "course_id": "course-v1:a+b+c", "mode": "audit", "is_active": True}
        page = {"results": [row], "next": next_url if len(requested_urls) == 1 else None}
        return httpx.Response(200, json=page)

    with lms(answer) as client:
        assert len(list(client.enrollments_of(["ada"]))) == 2
    assert {url.host for url in requested_urls} == {"lms.example"}
    assert requested_urls[1].params["cursor"] == "abc="


def test_characters_that_databases_reject_are_removed_from_messages() -> None:
    answer = answers_with(
        b'{"detail": "nul \\u0000 and half \\ud800", "error_code": "a\\u0000"}', 403
    )
    with lms(answer) as client, pytest.raises(AccessRefused) as caught:
        client.run_modes("course-v1:a+b+c")
    for text in (caught.value.message, caught.value.code, str(caught.value)):
        text.encode()
        assert "\0" not in text


@pytest.mark.parametrize("body", [b'{"results": NaN}', b"[Infinity]", b"-Infinity"])
def test_nan_and_infinity_in_an_answer_are_refused(body: bytes) -> None:
    with lms(answers_with(body)) as client, pytest.raises(BadAnswer):
        client.run_modes("course-v1:a+b+c")


@pytest.mark.parametrize("value", ["false", 0, 1, None, [], "no"])
def test_an_account_whose_is_active_is_not_true_or_false_is_refused(value: Any) -> None:
    with pytest.raises(LmsError):
        read_account({"username": "ada", "is_active": value})


@pytest.mark.parametrize("value", [{"a": 1}, [["x"]], True])
def test_a_course_run_whose_title_is_not_text_is_refused(value: Any) -> None:
    with pytest.raises(LmsError):
        read_run({"course_id": "course-v1:a+b+c", "name": value})


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59"])
def test_a_time_at_an_end_of_the_calendar_can_be_converted_to_any_time_zone(value: str) -> None:
    result = moment(value)
    assert result is not None
    for place in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        result.astimezone(ZoneInfo(place))


PAGE = b"<!doctype html><title>Bad Request</title>"
#: The LMS's answer to a request for the service worker's account.
WORKER = [{"username": "worker", "is_active": True}]


def answer_with_error_page(request: httpx.Request) -> httpx.Response:
    """An HTML error page of a proxy, or of Django if the session can't be saved."""
    return httpx.Response(400, headers={"Content-Type": "text/html"}, content=PAGE)


def register_ada(client: LmsClient) -> None:
    register(client, username="ada", email="a@b.org", name="Ada", country="", access_token="t")


def test_a_400_page_from_a_working_lms_fails_only_this_registration() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return (
            answer_with_error_page(request)
            if request.method == "POST"
            else httpx.Response(200, json=WORKER)
        )

    with lms(answer) as client, pytest.raises(BadAnswer) as caught:
        register_ada(client)
    # A transient failure is one of this request only, not of the LMS or its settings.
    assert caught.value.failure_class is FailureClass.TRANSIENT
    assert caught.value.request_id, "staff find the request in the LMS's log by its id"


def test_a_server_that_answers_every_request_with_a_page_is_not_the_lms() -> None:
    with lms(answer_with_error_page) as client, pytest.raises(NotTheLms):
        register_ada(client)


def test_a_403_page_is_an_answer_of_another_server() -> None:
    page = answers_with(b"<h1>403 Forbidden</h1><hr>nginx", 403, **{"Content-Type": "text/html"})
    with lms(page) as client, pytest.raises(NotTheLms, match="403, text/html"):
        client.run_modes("course-v1:a+b+c")


def test_a_401_for_a_registration_points_to_a_proxy_and_a_403_to_the_lms_s_setting() -> None:
    """The registration API needs no token, so only a proxy can have answered with 401."""
    with lms(answers_with({"detail": "no"}, 401)) as client, pytest.raises(AccessRefused) as caught:
        register_ada(client)
    assert "proxy" in caught.value.message
    assert "ALLOW_PUBLIC_ACCOUNT_CREATION" not in caught.value.message
    with lms(answers_with({"detail": "no"}, 403)) as client, pytest.raises(AccessRefused) as caught:
        register_ada(client)
    assert "ALLOW_PUBLIC_ACCOUNT_CREATION" in caught.value.message


def test_a_sign_in_that_the_lms_answers_with_a_400_page_is_started_again() -> None:
    attempts_to_complete = 0
    lms_url = "http://lms.example"

    def answer(request: httpx.Request) -> httpx.Response:
        """Signs the learner in; the first attempt to complete the sign-in gets an error page."""
        path = request.url.path
        if path.startswith("/auth/login/"):
            redirect_uri = f"{lms_url}/auth/complete/mitxpro-oauth2/"
            query = urlencode({"response_type": "code", "state": "s", "redirect_uri": redirect_uri})
            return httpx.Response(302, headers={"Location": f"http://app.example/?{query}"})
        if path.startswith("/auth/complete/"):
            nonlocal attempts_to_complete
            attempts_to_complete += 1
            if attempts_to_complete == 1:
                return answer_with_error_page(request)
            return httpx.Response(302, headers={"Location": f"{lms_url}/oauth2/authorize?a=b"})
        if path == "/oauth2/authorize":
            return httpx.Response(302, headers={"Location": "http://app.example/done?code=c"})
        if path == "/oauth2/access_token":
            return httpx.Response(200, json=TOKENS)
        return httpx.Response(200, json=WORKER)

    with lms(answer) as client:
        flow = AuthorizationFlow(
            client,
            user_id=1,
            redirect_uri="http://app.example/done",
            grant=lambda request: "code of the application",
        )
        assert flow.tokens().access_token == "access"
    assert attempts_to_complete == 2


@pytest.mark.parametrize(
    ("other_requests_work", "error"), [(True, Misconfigured), (False, ServerFailed)]
)
def test_a_500_shows_a_wrong_provider_record_only_if_the_lms_answers_other_requests(
    other_requests_work: bool, error: type[LmsError]
) -> None:
    """An LMS whose database is down answers every request with 500, even if the provider record is
    right."""

    def answer(request: httpx.Request) -> httpx.Response:
        shows_accounts = other_requests_work and request.url.path == "/api/user/v1/accounts"
        return httpx.Response(200, json=WORKER) if shows_accounts else httpx.Response(500)

    with lms(answer) as client, pytest.raises(error):
        register_ada(client)


TOKENS = {"access_token": "access", "refresh_token": "refresh", "expires_in": 3600}
#: Description of a malformed result → the result.
MALFORMED_RESULTS: dict[str, Any] = {
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


@pytest.mark.parametrize("description", MALFORMED_RESULTS)
def test_a_malformed_result_of_a_batch_fails_only_its_item(description: str) -> None:
    malformed = {"id": 1} | MALFORMED_RESULTS[description]
    good = {"id": 2, "status": "created", "error": None}
    with lms(answers_with({"results": [malformed, good]})) as client:
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
def test_a_page_of_changes_with_another_shape_is_refused(body: Any) -> None:
    """The client uses values of this answer in its next request."""
    with lms(answers_with(body)) as client, pytest.raises(LmsError):
        batch.changed_since(client, batch.ACCOUNTS, None)


@pytest.mark.parametrize(
    "outbox", [{"waiting": 10**400, "oldest_seconds": 1}, {"waiting": 1, "oldest_seconds": -5}, []]
)
def test_an_outbox_with_impossible_numbers_is_refused(outbox: Any) -> None:
    with (
        lms(answers_with({"capabilities": [], "outbox": outbox})) as client,
        pytest.raises(LmsError),
    ):
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
@pytest.mark.parametrize("request_type", ["account", "enroll", "register"])
def test_the_message_of_a_refusal_is_the_lms_s_sentence_without_json(
    status: int, body: Any, request_type: str
) -> None:
    with lms(answers_with(body, status)) as client, pytest.raises(LmsError) as error:
        if request_type == "account":
            client.change_account("ann", {"name": "Ann"}, "token")
        elif request_type == "enroll":
            client.enroll("ann", "course-v1:a+b+c", mode="audit", is_active=True)
        else:
            details = {"email": "ann@example.org", "name": "Ann", "country": ""}
            register(client, username="ann", access_token="token", **details)
    if status == 404 and request_type != "account":
        return  # these endpoints never refuse with 404
    assert "name: Too long." in error.value.message
    assert "{" not in error.value.message


def test_the_message_for_an_invalid_item_of_a_batch_names_the_field_and_its_error() -> None:
    body = {"items": [{"mode": [{"developer_message": "Too long."}]}]}
    with lms(answers_with(body, 400)) as client:
        results = batch.send(client, batch.ENROLLMENTS, [{"id": 1}])
    assert batch.result_of(results, 1)["error"]["message"] == "mode: Too long."


@pytest.mark.parametrize("depth", [100, 900])
@pytest.mark.parametrize("key", ["", "detail", "items"])
@pytest.mark.parametrize("status", [302, 400, 404])
def test_a_deeply_nested_refusal_is_an_error_of_the_client(
    status: int, key: str, depth: int
) -> None:
    if key:
        opening, closing = f'{{"{key}": ', "}"
    else:
        opening, closing = "[", "]"
    body = (opening * depth + '"x"' + closing * depth).encode()
    with lms(answers_with(body, status)) as client:
        for request in (
            lambda: client.account("ada"),
            lambda: batch.send(client, batch.ENROLLMENTS, [{"id": 1}]),
            lambda: register_ada(client),
        ):
            with suppress(LmsError):  # no other error is raised, such as RecursionError
                request()


@pytest.mark.parametrize("capabilities", [None, 5, True, "accounts"])
def test_the_capabilities_are_not_known_if_the_answer_has_no_list_of_them(
    capabilities: Any,
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        is_batch = request.url.path.startswith("/usher/")
        return httpx.Response(200, json={"capabilities": capabilities} if is_batch else WORKER)

    with lms(answer) as client:
        assert batch.capabilities(client) is None


@pytest.mark.parametrize(
    "position", ["9" * 5000, "-1", "²", "1.0"], ids=["huge", "negative", "superscript", "fraction"]
)
def test_a_refusal_of_items_at_impossible_positions_concerns_the_whole_batch(position: str) -> None:
    body = {"items": {position: {"mode": ["no"]}}}
    with lms(answers_with(body, 400)) as client, pytest.raises(Refused):
        batch.send(client, batch.ENROLLMENTS, [{"id": 1}])


def test_a_next_page_with_half_of_a_surrogate_pair_is_refused() -> None:
    body = b'{"results": [], "next": "/api/enrollment/v1/enrollments?cursor=\\ud800"}'
    with lms(answers_with(body)) as client, pytest.raises(BadAnswer):
        list(client.enrollments_of(["ada"]))


CREATED = {"id": 1, "status": "created", "error": None}
REFUSED = {"id": 1, "status": "refused", "error": {"code": "x", "message": "No."}}


@pytest.mark.parametrize(
    "answers_about_1",
    [
        [CREATED, REFUSED],
        [REFUSED, CREATED],
        [CREATED, CREATED],
        [CREATED | {"id": True}],
        [CREATED | {"id": 1.0}],
        [CREATED | {"id": [1]}],
        [{"status": "created", "error": None}],
        [None],
        ["1"],
    ],
    ids=[
        *("success and refusal", "refusal and success", "twice the same", "true", "fraction"),
        *("list", "no id", "null", "text"),
    ],
)
def test_an_item_of_a_batch_without_exactly_one_result_fails_alone(
    answers_about_1: list[Any],
) -> None:
    good = {"id": 2, "status": "created", "error": None}
    with lms(answers_with({"results": [*answers_about_1, good]})) as client:
        results = batch.send(client, batch.ACCOUNTS, [{"id": 1}, {"id": 2}])
    with pytest.raises(BadAnswer):
        batch.result_of(results, 1)
    assert batch.result_of(results, 2)["status"] == "created"


def test_a_result_of_an_item_that_was_not_sent_does_not_count() -> None:
    """The LMS answers the first batch as if it had also processed the second one, which fails."""
    count_of_requests = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count_of_requests
        count_of_requests += 1
        if count_of_requests > 1:
            return httpx.Response(401, json={"detail": "no"})
        results = [{"id": number, "status": "created", "error": None} for number in range(1000)]
        return httpx.Response(200, json={"results": results})

    with lms(answer) as client:
        items = [{"id": number} for number in range(1000)]
        results = batch.send(client, batch.ACCOUNTS, items)
    assert batch.result_of(results, 0)["status"] == "created"
    with pytest.raises(AccessRefused):
        batch.result_of(results, 999)


def test_a_list_of_changes_that_repeats_a_cursor_ends() -> None:
    body = {"results": [], "next": "same", "now": NOW}
    with lms(answers_with(body)) as client, pytest.raises(BadAnswer, match="does not end"):
        list(batch.pages_of_changes(client, batch.COURSE_RUNS, None))


KEY, OTHER_KEY = "course-v1:a+b+c", "course-v1:a+b+d"
#: Request → what the LMS answers about the learner ``ada`` and the run ``KEY``.
ANSWERS_ABOUT_ADA: dict[str, tuple[Callable[[LmsClient], Any], Any]] = {
    "enroll": (
        lambda client: client.enroll("ada", KEY, mode="audit", is_active=True),
        {"user": "ada", "course_details": {"course_id": KEY}, "mode": "audit", "is_active": True},
    ),
    "enrollment": (
        lambda client: client.enrollment("ada", KEY),
        {"user": "ada", "course_details": {"course_id": KEY}, "mode": "audit", "is_active": True},
    ),
    "grade": (
        lambda client: client.grade("ada", KEY),
        [{"username": "ada", "course_id": KEY, "percent": 1.0, "passed": True}],
    ),
    "certificates": (
        lambda client: client.certificates("ada"),
        [{"username": "ada", "course_id": KEY, "status": "downloadable"}],
    ),
    "modes": (
        lambda client: client.run_modes(KEY),
        [{"course_id": KEY, "mode_slug": "audit"}],
    ),
}


@pytest.mark.parametrize("request_name", ANSWERS_ABOUT_ADA)
def test_an_answer_about_another_learner_or_run_is_refused(request_name: str) -> None:
    """A proxy that caches by the path alone, or mixes up connections, sends such answers."""
    send, body = ANSWERS_ABOUT_ADA[request_name]
    with lms(answers_with(body)) as client:
        assert send(client)
    about_another_learner = json.dumps(body).replace('"ada"', '"bob"')
    about_another_run = json.dumps(body).replace(KEY, OTHER_KEY)
    changed_bodies = [about_another_learner, about_another_run]
    if request_name == "certificates":  # the learner's certificates are those of all runs
        changed_bodies.remove(about_another_run)
    if request_name == "modes":  # modes belong to no learner
        changed_bodies.remove(about_another_learner)
    for changed_body in changed_bodies:
        with (
            lms(answers_with(changed_body.encode())) as client,
            pytest.raises(BadAnswer, match="another"),
        ):
            send(client)


@pytest.mark.parametrize(
    "after_the_end",
    [b"\0", gzip.compress(b"2"), b"x" * 40_000_000],
    ids=["a byte", "a second part", "40 MB"],
)
def test_bytes_after_the_end_of_a_compressed_answer_are_refused(after_the_end: bytes) -> None:
    """zlib would keep all of them in memory, and the limit concerns decompressed bytes."""
    body = gzip.compress(b'{"a": 1}') + after_the_end
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with pytest.raises(BadAnswer, match="continues"):
        Http(RawServer(head, body).url, timeout=60.0, state=LocalState()).request(
            "GET", "/", again=False
        )


def test_a_page_whose_content_type_is_in_capitals_is_not_the_lms_s() -> None:
    page = answers_with(b"<h1>Sign in</h1>", 200, **{"Content-Type": "TEXT/HTML"})
    with lms(page) as client, pytest.raises(NotTheLms):
        client.run_modes(KEY)
