"""Arbitrary requests of strangers, learners and other clients are refused without an exception."""

import json
import logging
from base64 import b64encode
from urllib.parse import quote, urlencode

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.application.provider.conftest import CALLBACK, make_learner
from usher.application.provider.clients import ensure_client
from usher.contract.paths import ApplicationPath

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

ENDPOINTS = (
    "/oauth2/authorize/",
    "/oauth2/token/",
    "/oauth2/revoke_token/",
    "/oauth2/userinfo/",
    "/oauth2/.well-known/openid-configuration",
    "/oauth2/.well-known/jwks.json",
    "/.well-known/oauth-authorization-server",
    ApplicationPath.USERS_ME,
    *ApplicationPath.LANDINGS,
    ApplicationPath.LOGOUT,
    ApplicationPath.BACKCHANNEL_LOGOUT,
    ApplicationPath.WEBHOOKS,
    ApplicationPath.HEALTH_LIVE,
    ApplicationPath.HEALTH_READY,
    "/staff/health/",
    "/api/schema/",
    "/api/v1/me/",
    "/api/v1/course-runs/",
    "/api/v1/course-runs/course-v1:a+b+c/",
    "/api/v1/enrollments/",
    "/api/v1/enrollments/course-v1:a+b+c/",
    "/accounts/login/",
    "/accounts/signup/",
    "/accounts/password/reset/",
    "/accounts/password/change/",
    "/accounts/confirm-email/",
    "/admin/login/",
)
OAUTH_PARAMETERS = (
    *("client_id", "client_secret", "redirect_uri", "response_type", "scope", "state", "nonce"),
    *("code", "code_verifier", "code_challenge", "code_challenge_method", "grant_type", "prompt"),
    *("refresh_token", "token", "token_type_hint", "resource", "claims", "max_age", "login_hint"),
    *("id_token_hint", "approval_prompt", "request", "request_uri", "ui_locales", "allow"),
)
PARAMETERS = (
    *OAUTH_PARAMETERS,
    *("next", "no_redirect", "format", "page", "page_size", "cursor", "limit", "ordering"),
    *("course_key", "mode", "username", "login", "password", "password1", "email", "name"),
    *("logout_token", "device_code", "csrfmiddlewaretoken", "provider", "access_token"),
)
#: Malformed, long or hostile values, and values with a meaning in a request of OAuth2.
ODD_VALUES = (
    "",
    "\x00",
    "a\x00b",
    "\u2028",
    "\u202e",
    "\ud800",
    "\U0001f600" * 50,
    "x" * 5000,
    "9" * 400,
    "-1",
    "1e400",
    "NaN",
    "%",
    "%00",
    "%ff",
    "{{7*7}}",
    "' or 1=1 --",
    "<script>",
    "//evil.example",
    "https://evil.example/",
    "javascript:alert(1)",
    "[" * 3000,
    "{" * 3000,
    "none login consent create select_account",
    "openid user:read",
    "user:read",
    "code",
    "token",
    "code id_token",
    "S256",
    "plain",
    "authorization_code",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
    CALLBACK,
    "the-client",
    "http://[::1",
    "http://a b/",
    "x:y:z",
    '{"id_token": {"sub": {"value": "x"}}}',
    '{"userinfo": 1}',
    "null",
    "[]",
    "123",
    '"text"',
)
FORM_TYPE = "application/x-www-form-urlencoded"
#: Content types whose bodies Django or the API parses.
PARSED_TYPES = (FORM_TYPE, "application/json", "multipart/form-data")
TYPES = (
    *PARSED_TYPES,
    "multipart/form-data; boundary=\xff",
    "multipart/form-data; boundary=x",
    "text/plain; charset=utf-7",
    "application/json; charset=nonsense",
    "",
    "/",
)
BODIES = (
    b"",
    b"{",
    b"[" * 50_000,
    b'{"a":' * 5_000,
    b"null",
    b"\xff\xfe\x00",
    b'"\\ud800"',
    b"1" + b"0" * 5000,
    b"a=%00&b=%ff&client_id=%00",
    b"&".join(b"a=%d" % n for n in range(2000)),
    b"x" * 3_000_000,
    b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n',
    b'--x\r\nContent-Disposition: form-data; name="a"; filename="\x00"\r\n\r\nb\r\n--x--\r\n',
)
HEADERS = (
    {},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer \x00"},
    {"Authorization": "Bearer \xff\ud800".encode("utf-8", "replace").decode()},
    {"Authorization": "Bearer " + "x" * 10_000},
    {"Authorization": "Basic"},
    {"Authorization": "Basic !!!"},
    {"Authorization": "Basic " + b64encode(b"\x00:\xff").decode()},
    {"Authorization": "Basic " + b64encode(b"no-colon").decode()},
    {"Authorization": "Basic " + b64encode("ü%zz:%00".encode()).decode()},
    {"Cookie": "sessionid=\x00; csrftoken=x"},
    {"Cookie": "sessionid=" + "x" * 4000},
    {"Host": "evil.example"},
    {"Host": "[::1"},
    {"Host": "localhost:99999999"},
    {"Accept": "application/xml;q=\x00"},
    {"Accept-Language": "\x00" * 100},
    {"X-Forwarded-For": "not an address"},
    {"Usher-Event-Id": "1", "Usher-Timestamp": "9" * 30, "Usher-Signature": "v1=ü"},
    {"Usher-Event-Id": "1", "Usher-Timestamp": "²", "Usher-Signature": "\x00"},
    {"Content-Length": "-5"},
    {"Content-Length": "many"},
)


@pytest.fixture(autouse=True)
def no_logging():
    """Without this fixture, pytest would keep the log lines of all refused requests in memory."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def browsers(db, settings):
    """Two browsers, an anonymous one and one with a signed-in learner. ``the-client`` is the LMS's
    client."""
    settings.USHER_WEBHOOK_SECRET = "a-secret-that-nobody-knows"
    cache.clear()
    ensure_client("edx-oauth-app", [CALLBACK], client_id="the-client", client_secret="s" * 64)
    ensure_client("other", [CALLBACK], client_id="other-client", pkce_required=True)
    anonymous, learner = (Client(raise_request_exception=False) for _ in range(2))
    learner.force_login(make_learner("ada"))
    yield anonymous, learner
    cache.clear()


#: Pages that redirect signed-in users immediately.
PAGES_FOR_ANONYMOUS = ("/accounts/login/", "/accounts/signup/", "/admin/login/")


def browsers_that_are_not_redirected(browsers, path):
    """The anonymous browser or the learner's browser, whichever the page does not redirect."""
    anonymous, learner = browsers
    return [anonymous if path in PAGES_FOR_ANONYMOUS else learner]


def send(browsers, method, path, query="", body=b"", content_type="", headers=None):
    """Sends the request with each browser; no answer may be a 5xx or a redirect to another site."""
    cache.clear()  # resets the rate limits, which would refuse most requests unread
    for browser in browsers:
        answer = browser.generic(
            method,
            path,
            body,
            content_type or "application/octet-stream",
            QUERY_STRING=query,
            headers=headers or {},
        )
        assert answer.status_code < 500, (method, path, query, body[:200], content_type, headers)
        location = answer.headers.get("Location", "")
        assert "evil.example" not in location.partition("?")[0], location


@pytest.mark.any_database
@pytest.mark.parametrize("path", ENDPOINTS)
def test_any_body_with_any_content_type_is_answered_without_a_5xx(browsers, path):
    browsers_with_access = browsers_that_are_not_redirected(browsers, path)
    for body in BODIES:
        # Large bodies take long, so they are sent only with the types that are parsed.
        for content_type in TYPES if len(body) < 100_000 else PARSED_TYPES:
            send(browsers_with_access, "POST", path, body=body, content_type=content_type)
        redirected = [browser for browser in browsers if browser not in browsers_with_access]
        send(redirected, "POST", path, body=body, content_type=FORM_TYPE)


@pytest.mark.any_database
@pytest.mark.parametrize("path", ENDPOINTS)
def test_any_header_is_answered_without_a_5xx(browsers, path):
    browsers_with_access = browsers_that_are_not_redirected(browsers, path)
    for headers in HEADERS:
        send(browsers, "GET", path, headers=headers)
        send(browsers_with_access, "POST", path, headers=headers)


@pytest.mark.any_database
@pytest.mark.parametrize("path", ENDPOINTS)
def test_any_method_is_answered_without_a_5xx(browsers, path):
    for method in ("HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"):
        send(browsers, method, path, body=b"{}", content_type="application/json")


MALFORMED_QUERIES = (
    "%",
    "%zz",
    "a=%ff",
    "=&=&=",
    "&" * 500,
    "a=1&" * 1500,
    "%00=%00",
    "a[b][c]=1",
    "\xff",
)


@pytest.mark.any_database
@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_malformed_query_is_answered_without_a_5xx(browsers, path):
    for query in MALFORMED_QUERIES:
        send(browsers, "GET", path, query=query)


AUTHORIZE = "/oauth2/authorize/"
OAUTH_ENDPOINTS = (AUTHORIZE, "/oauth2/token/", "/oauth2/revoke_token/")
#: A request of ``the-client`` as it should be, except that its code and its tokens don't exist.
VALID_PARAMETERS = {
    "client_id": "the-client",
    "client_secret": "s" * 64,
    "redirect_uri": CALLBACK,
    "response_type": "code",
    "grant_type": "authorization_code",
    "code": "x",
    "token": "x",
    "refresh_token": "x",
}


def encode_form(fields):
    """The body of a form. Lone surrogates, for which ``urlencode`` alone fails, become bytes."""
    return urlencode(
        {name: value.encode("utf-8", "surrogatepass") for name, value in fields.items()}
    )


#: PostgreSQL rejects or truncates these values; SQLite stores them. With PostgreSQL, the tests send
#: only these values.
VALUES_THAT_POSTGRESQL_REJECTS = (
    "\x00",
    "a\x00b",
    "\ud800",
    "\U0001f600" * 50,
    "x" * 5000,
    "9" * 400,
    "-1",
)


#: The parameters that each endpoint reads.
PARAMETERS_READ = {
    AUTHORIZE: {
        *("client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "prompt"),
        *("code_challenge", "code_challenge_method", "resource", "claims", "max_age", "allow"),
        *("login_hint", "id_token_hint", "approval_prompt", "request", "request_uri", "ui_locales"),
    },
    "/oauth2/token/": {
        *("client_id", "client_secret", "redirect_uri", "scope", "code", "code_verifier"),
        *("grant_type", "refresh_token", "resource"),
    },
    "/oauth2/revoke_token/": {"client_id", "client_secret", "token", "token_type_hint"},
}
#: (endpoint, parameters that get an odd value): one test for each parameter that an endpoint reads,
#: and one for all its other parameters together.
PARAMETERS_TO_CHANGE = [
    *(
        (path, (name,))
        for path in OAUTH_ENDPOINTS
        for name in OAUTH_PARAMETERS
        if name in PARAMETERS_READ[path]
    ),
    *(
        (path, tuple(name for name in OAUTH_PARAMETERS if name not in PARAMETERS_READ[path]))
        for path in OAUTH_ENDPOINTS
    ),
]


@pytest.mark.parametrize(("path", "names"), PARAMETERS_TO_CHANGE)
def test_odd_values_in_a_valid_request_are_answered_without_a_5xx(browsers, path, names):
    """Only the learner's browser sends the POST requests: two of the three endpoints use no
    session."""
    browsers_with_access = browsers_that_are_not_redirected(browsers, path)
    for value in ODD_VALUES if connection.vendor == "sqlite" else VALUES_THAT_POSTGRESQL_REJECTS:
        text = encode_form({**VALID_PARAMETERS, **dict.fromkeys(names, value)})
        if path == AUTHORIZE:  # the only one of these endpoints that accepts GET requests
            send(browsers, "GET", path, query=text)
        send(browsers_with_access, "POST", path, body=text.encode(), content_type=FORM_TYPE)


FIELDS = st.dictionaries(
    st.sampled_from(PARAMETERS), st.sampled_from(ODD_VALUES) | st.text(max_size=30), max_size=8
)
SETTINGS = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("path", ENDPOINTS)
@SETTINGS
@given(fields=FIELDS, with_valid_parameters=st.booleans())
def test_generated_parameters_are_answered_without_a_5xx(
    browsers, path, fields, with_valid_parameters
):
    text = encode_form({**VALID_PARAMETERS, **fields} if with_valid_parameters else fields)
    send(browsers, "GET", path, query=text)
    send(browsers, "POST", path, body=text.encode(), content_type=FORM_TYPE)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(ODD_VALUES)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "path", [path for path in ENDPOINTS if path.startswith(("/api", "/usher"))]
)
@SETTINGS
@given(value=JSON | st.dictionaries(st.sampled_from(PARAMETERS), JSON))
def test_generated_json_is_answered_without_a_5xx(browsers, path, value):
    body = json.dumps(value).encode()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        send(browsers, method, path, body=body, content_type="application/json")


@SETTINGS
@given(text=st.sampled_from(ODD_VALUES) | st.text(max_size=300))
def test_generated_course_keys_are_answered_without_a_5xx(browsers, text):
    key = quote(text.encode("utf-8", "surrogatepass"))
    for path in ("/api/v1/course-runs/", "/api/v1/enrollments/"):
        send(browsers, "GET", f"{path}{key}/")
        send(browsers, "DELETE", f"{path}{key}/")
