"""Hostile input to the pages and endpoints of the plugin and of the embedded LMS."""

from __future__ import annotations

import socket
from base64 import urlsafe_b64encode
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lms.conftest import DEMO, Lms

PLUGIN_PATHS = (
    "/usher/backchannel-logout/mitxpro-oauth2/",
    "/usher/backchannel-logout/nobody/",
    "/usher/stopped/",
    "/usher/switch/",
    "/usher/api/v1/",
    "/usher/api/v1/accounts/",
    "/usher/api/v1/enrollments/",
    "/usher/api/v1/course-runs/",
    "/usher/api/v1/report/",
)
PLATFORM_PATHS = (
    "/login",
    "/register",
    "/logout",
    "/auth/login/mitxpro-oauth2/",
    "/auth/complete/mitxpro-oauth2/",
    "/auth/complete/nobody/",
    "/user_api/v1/account/registration/",
    "/api/user/v1/validation/registration",
    "/api/user/v1/accounts",
    "/api/user/v1/me",
    "/api/user/v1/account/login_session/",
    "/api/courses/v1/courses/",
    f"/api/courses/v1/courses/{DEMO}",
    f"/api/course_modes/v1/courses/{DEMO}/",
    "/api/enrollment/v1/enrollment",
    "/api/enrollment/v1/enrollments/",
    "/api/grades/v1/courses/",
    "/api/certificates/v0/certificates/nobody/",
    "/oauth2/access_token/",
    "/oauth2/authorize/",
    "/heartbeat",
    "/dashboard",
)
PARAMETERS = (
    *("logout_token", "next", "reason", "backend", "token", "partial_token", "auth_entry"),
    *("code", "state", "error", "redirect_state", "username", "email", "name", "country"),
    *("password", "provider", "access_token", "page", "page_size", "course_keys", "permissions"),
    *("client_id", "client_secret", "grant_type", "refresh_token", "redirect_uri", "scope"),
    *("response_type", "changed_since", "cursor", "limit", "user", "course_id", "no_redirect"),
)
#: The last two have the form of a signed token: without algorithm, and deeply nested.
HOSTILE_VALUES = (
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\u202e",
    "x" * 3000,
    "9" * 400,
    "-1",
    "1e400",
    "%ff",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "//evil.example/",
    "https://evil.example/",
    "javascript:alert(1)",
    "http://[::1",
    "mitxpro-oauth2",
    DEMO,
    "a.b.c",
    ".".join([urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")] * 3),
    ".".join([urlsafe_b64encode(b"[" * 2000).decode().rstrip("=")] * 3),
)
DEEPLY_NESTED_JSON = b"[" * 30_000
BODIES = (
    b"",
    b"{",
    DEEPLY_NESTED_JSON,
    b"null",
    b"\xff\xfe",
    b'"\\ud800"',
    b"1" + b"0" * 5000,
    b"a=%00&username=%ff&logout_token=%00",
    b"&".join(b"a=1" for _ in range(1500)),
    b"x" * 3_000_000,
)
TYPES = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data", "a/b")
SETTINGS = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def client(lms: Lms) -> httpx.Client:
    # No connection is used twice, because the server closes a connection if it has not read the
    # whole body of a request.
    new_connections = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=lms.url, timeout=60, trust_env=False, limits=new_connections)


def assert_harmless(answer: httpx.Response) -> None:
    """The answer is no server error, no redirect to another host, and repeats no script."""
    assert answer.status_code < 500, (str(answer.request.url)[:300], answer.request.content[:100])
    assert "evil.example" not in urlsplit(answer.headers.get("Location", "")).netloc
    # oauthlib's errors repeat ``state``. These errors are JSON, in which browsers run no scripts.
    if answer.headers.get("Content-Type", "").partition(";")[0] != "application/json":
        assert "<script>alert(1)" not in answer.text


def url_encoded(fields: dict[str, str]) -> str:
    return urlencode({k: v.encode("utf-8", "surrogatepass") for k, v in fields.items()})


@pytest.mark.parametrize("path", PLUGIN_PATHS + PLATFORM_PATHS)
def test_answers_to_hostile_bodies_are_harmless(client: httpx.Client, path: str) -> None:
    for body in BODIES:
        if body is DEEPLY_NESTED_JSON and path in PLATFORM_PATHS:
            continue  # the platform's own pages fail for such a body
        is_large = len(body) > 100_000
        # The server refuses a large body of any type.
        for content_type in TYPES[:1] if is_large else TYPES:
            headers = {"Content-Type": content_type}
            try:
                assert_harmless(client.post(path, content=body, headers=headers))
            except (httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
                # The server refuses a large body before it has read all of it.
                assert is_large


@pytest.mark.parametrize("path", PLUGIN_PATHS + PLATFORM_PATHS)
def test_answers_to_unusual_methods_are_harmless(client: httpx.Client, path: str) -> None:
    for method in ("HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "NONSENSE"):
        assert_harmless(client.request(method, path, content=b"{}"))


@pytest.mark.parametrize("path", PLUGIN_PATHS + PLATFORM_PATHS)
@SETTINGS
@given(
    fields=st.dictionaries(
        st.sampled_from(PARAMETERS), st.sampled_from(HOSTILE_VALUES) | st.text(max_size=20)
    )
)
def test_answers_to_hostile_parameters_are_harmless(
    client: httpx.Client, path: str, fields: dict[str, str]
) -> None:
    if path in PLATFORM_PATHS:
        fields.pop("client_id", None)  # the platform fails for unknown clients
    text = url_encoded(fields)
    client.cookies.clear()
    assert_harmless(client.get(f"{path}?{text[:4000]}"))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert_harmless(client.post(path, content=text.encode(), headers=headers))


COOKIES = ("edx-jwt-cookie-header-payload", "edx-jwt-cookie-signature", "sessionid", "csrftoken")


@pytest.mark.parametrize("path", ["/dashboard", "/usher/stopped/", "/api/user/v1/me", "/login"])
def test_answers_to_hostile_cookies_are_harmless(client: httpx.Client, path: str) -> None:
    # ``quote`` can't encode one of the first four values. ``e30`` is ``{}`` in Base64.
    for value in (*HOSTILE_VALUES[4:], "e30.e30.e30", "e30." + "A" * 3000):
        for name in COOKIES:
            client.cookies.clear()
            cookie = f"{name}={quote(value, safe='.-_')[:3500]}"
            assert_harmless(client.get(path, headers={"Cookie": cookie}))


@pytest.mark.parametrize("path", PLUGIN_PATHS)
def test_answers_to_hostile_paths_are_harmless(client: httpx.Client, path: str) -> None:
    for value in HOSTILE_VALUES:
        part = quote(value.encode("utf-8", "surrogatepass"), safe="")[:2000]
        assert_harmless(client.get(f"{path}{part}"))
        assert_harmless(
            client.post(f"/usher/backchannel-logout/{part}/", data={"logout_token": "x"})
        )


def test_unfinished_requests_do_not_block_other_requests(lms: Lms, client: httpx.Client) -> None:
    """One request has an unfinished body, the other has unfinished headers."""
    address = urlsplit(lms.url)
    unfinished = []
    for text in (
        b"POST /usher/backchannel-logout/mitxpro-oauth2/ HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 1000\r\n\r\nlogout",
        b"GET /heartbeat HTTP/1.1\r\nX-Endless: ",
    ):
        connection = socket.create_connection((address.hostname or "", address.port or 80))
        connection.sendall(text)
        unfinished.append(connection)
    try:
        assert_harmless(client.get("/heartbeat", timeout=60))
    finally:
        for connection in unfinished:
            connection.close()
