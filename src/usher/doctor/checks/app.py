"""The application's OAuth2 provider, which the LMS relies on."""

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx

from usher.contract import agents
from usher.contract.cookies import session_cookies_collide
from usher.contract.environment import Env
from usher.contract.oauth import BACKENDS, SCOPE_USER_READ, social_login_path
from usher.contract.paths import ApplicationPath, LmsPath
from usher.doctor.check import Check, Finding, check, failed, note, ok, quantity, skipped
from usher.doctor.context import Context
from usher.doctor.facts.memo import NotKnownError
from usher.doctor.facts.web import origin, query_of
from usher.doctor.fixes import CONNECT, ENV_FILE, RESTART, setting

#: How the names of Django's slow hashers for passwords begin.
_PASSWORD_HASHERS = ("pbkdf2", "bcrypt", "argon2", "scrypt")


@check
class RedirectUriIsRegistered(Check):
    """The LMS's redirect URI is registered.

    Symptom: a page that says "Mismatching redirect URI".
    Cause: the LMS's address, with its port and scheme, is not among the redirect URIs of
    the LMS's client.
    Fix: run `usher connect`, or add the redirect URI that the finding names to the LMS's client in
    the application's admin.
    """

    id = "APP-1"
    essential = True
    depends_on = ("PRV-1", "PRV-2", "PRV-3", "NET-5", "APP-6")

    def probe(self, context: Context) -> Finding:
        answer = context.lms.get(context.sign_in_path)
        redirect_uri = query_of(answer.headers.get("location", "")).get("redirect_uri", "")
        if not redirect_uri:
            return skipped(f"sign-in at the LMS answers {answer.status_code}, no redirect")
        address = redirect_uri.split("?")[0]
        registered = context.application.client(context.lms_client_id).get("redirect_uris", [])
        if address in registered:
            return ok(f"{address} is registered")
        return failed(
            f"the LMS's redirect URI {address} is not registered; registered: "
            f"{', '.join(registered) or 'none'}",
            cause="the LMS's address changed, or was registered with another port or scheme",
            fix=f"{CONNECT} (registers {address} for the LMS's client)",
            repair="redirect-uri",
        )


@check
class PkceIsOptional(Check):
    """PKCE is optional for the LMS's client.

    Symptom: `invalid_request: Code challenge required`.
    Cause: django-oauth-toolkit requires PKCE by default; the sign-in backends of MITx Online and
    MIT xPro don't send it. Whether another backend sends it shows in the LMS's redirect to the
    application.
    Fix: switch off *PKCE required* of that client in the application's admin.
    """

    id = "APP-2"
    depends_on = ("PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        client = context.application.client(context.lms_client_id)
        if not client.get("pkce_required"):
            return ok("PKCE is optional for the LMS's client")
        if context.backend not in BACKENDS and _sends_code_challenge(context):
            return ok(f"PKCE is required of {client.get('name')}, and {context.backend} sends it")
        return failed(
            f"PKCE is required of {client.get('name')}, and {context.backend} does not send it",
            cause="the OAuth toolkit requires PKCE by default",
            fix="switch off 'PKCE required' of that client in the application's admin",
            repair="relax-pkce",
        )


def _sends_code_challenge(context: Context) -> bool:
    """Whether the LMS's redirect to the application has a code challenge (PKCE). Raises
    NotKnownError if the LMS does not redirect."""
    answer = context.lms.get(context.sign_in_path)
    query = query_of(answer.headers.get("location", ""))
    if "redirect_uri" not in query:
        raise NotKnownError(
            f"sign-in at the LMS answers {answer.status_code}, no redirect, so it is not known "
            f"whether {context.backend}, a backend of your own, sends PKCE"
        )
    return "code_challenge" in query


@check
class ScopeIsKnown(Check):
    """The application knows the scope that the LMS asks for.

    Symptom: the LMS gets 401 or 403 from `api/users/me`.
    Cause: the scope `user:read` is missing from the provider's scopes.
    Fix: add it to OAUTH2_PROVIDER["SCOPES"].
    """

    id = "APP-3"

    def probe(self, context: Context) -> Finding:
        scopes = context.application.report.get("scopes", [])
        if SCOPE_USER_READ not in scopes:
            return failed(
                f"the scope {SCOPE_USER_READ} is missing; there are: {', '.join(scopes) or 'none'}",
                cause="without it, no token may read api/users/me",
                fix=f'OAUTH2_PROVIDER["SCOPES"]["{SCOPE_USER_READ}"] = "Read your profile"',
            )
        return ok(f"{SCOPE_USER_READ} is among the scopes")


@check
class ServerAnswersConcurrently(Check):
    """The application answers several requests at a time.

    Symptom: registration times out.
    Cause: the LMS calls the application while the application waits for the LMS; a server with
    a single thread can't answer.
    Fix: run the application's server with several threads or processes.
    """

    id = "APP-4"
    depends_on = ("NET-1", "NET-2")

    def probe(self, context: Context) -> Finding:
        url = context.application.url
        context.application.get(ApplicationPath.USERS_ME)  # raises NotKnownError without an answer
        if urlsplit(url).scheme == "https":
            return skipped("a proxy is in front of the application")
        for _ in range(_MAX_TRIES):
            # The time for one answer is measured before and afterwards, since the machine may be
            # busy.
            seconds_before = _answer_seconds(url) or _LONGEST_WAIT_SECONDS
            max_wait = max(_SHORTEST_WAIT_SECONDS, _WAIT_FACTOR * seconds_before)
            with _unfinished_requests(url):
                if _answer_seconds(url, max_wait) is not None:
                    return ok("it answers while other requests are in progress")
            seconds_afterwards = _answer_seconds(url, max_wait) or max_wait
            # Fast again: the server was not slow, the unfinished requests had occupied it.
            if seconds_afterwards < max_wait / 2:
                return failed(
                    "the application does not answer while another request is in progress",
                    cause="its server has a single thread, so the LMS's request gets no answer",
                    fix="run its server with several threads, such as gunicorn --threads 16 or "
                    "granian --interface wsgi --blocking-threads 16",
                )
        raise NotKnownError("the application answers too slowly to tell")


_MAX_TRIES = 3
#: The application has to answer within ``_WAIT_FACTOR`` times the seconds of a normal answer, and
#: always gets at least ``_SHORTEST_WAIT_SECONDS``.
_SHORTEST_WAIT_SECONDS = 2.0
_LONGEST_WAIT_SECONDS = 10.0
_WAIT_FACTOR = 5
#: The number of requests that the LMS may send to the application at the same time.
_MAX_REQUESTS_OF_LMS = 2


def _answer_seconds(url: str, max_wait: float = _LONGEST_WAIT_SECONDS) -> float | None:
    """Seconds that one answer takes; None if there is none within ``max_wait`` seconds."""
    began = time.monotonic()
    try:
        httpx.get(
            url.rstrip("/") + ApplicationPath.USERS_ME,
            headers=agents.DOCTOR,
            timeout=max_wait,
            trust_env=False,
        )
    except httpx.HTTPError:
        return None
    return time.monotonic() - began


@contextlib.contextmanager
def _unfinished_requests(url: str) -> Iterator[None]:
    """Begins ``_MAX_REQUESTS_OF_LMS`` requests and finishes none of them. Each occupies one
    thread of the server until the end of the block."""
    _, host, port = origin(url)
    with contextlib.ExitStack() as stack:
        for _ in range(_MAX_REQUESTS_OF_LMS):
            connection = stack.enter_context(socket.create_connection((host, port), timeout=5))
            connection.sendall(f"GET {ApplicationPath.USERS_ME} HTTP/1.1\r\nHost: {host}".encode())
        yield


@check
class ClientSecretUsesKeyedHash(Check):
    """The LMS's client secret uses the fast keyed hash.

    Symptom: the token endpoint takes hundreds of milliseconds.
    Cause: the client's secret is hashed with the slow hash for passwords, which a random secret
    does not need.
    Fix: set OAUTH2_PROVIDER["CLIENT_SECRET_HASHER"] = "usher_keyed", then run `usher connect`; the
    stored secret is hashed again at its next use.
    """

    id = "APP-5"
    depends_on = ("PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        hasher = context.application.client(context.lms_client_id).get("secret_hasher", "")
        if not hasher.startswith(_PASSWORD_HASHERS):
            return ok(f"it is hashed with {hasher or 'nothing slow'}")
        if not context.application.report.get("usher"):
            return note(
                f"the LMS's client secret is hashed with {hasher}",
                cause=(
                    "the application has no other hasher; sign-in works, but takes some tenths "
                    "of a second longer"
                ),
            )
        return failed(
            f"the LMS's client secret is hashed with {hasher}",
            cause="a password hasher is slow on purpose",
            fix='OAUTH2_PROVIDER["CLIENT_SECRET_HASHER"] = "usher_keyed" in the settings, '
            f"then {CONNECT}",
            repair="provision",
        )


@check
class BackendNamesAgree(Check):
    """The application and the LMS use the same sign-in backend.

    Symptom: "Mismatching redirect URI", or 404 at sign-in, right after the set-up.
    Cause: the LMS has `ol-oauth2` and the application asks for `mitxpro-oauth2`, or the reverse.
    Fix: set OPENEDX_OAUTH_PROVIDER in the application's `.env` to the backend of the LMS's provider
    record, and restart the application.
    """

    id = "APP-6"
    essential = True
    depends_on = ("ENV-1", "ENV-3", "LMS-1")

    def probe(self, context: Context) -> Finding:
        backend = context.backend
        path = context.sign_in_path
        if path.startswith("/auth/login/") and LmsPath.sign_in_start(backend) not in path:
            return self._failed(
                f"{Env.OPENEDX_OAUTH_PROVIDER} is {backend}, but "
                f"{Env.OPENEDX_SOCIAL_LOGIN_PATH} is {path}",
                lms_backend=backend,
            )
        enabled = [row for row in context.lms.report.get("providers", []) if row.get("enabled")]
        lms_backends = sorted(
            {str(name) for row in enabled if (name := row.get("backend_name")) is not None}
        )
        if lms_backends and not context.lms.providers(backend):
            return self._failed(
                f"the application asks for {backend}, the LMS has {', '.join(lms_backends)}",
                lms_backend=lms_backends[0],
            )
        return ok(f"both use {backend}")

    def _failed(self, seen: str, *, lms_backend: str) -> Finding:
        return failed(
            seen,
            cause="the application and the LMS were set up with different backends",
            fix=setting(
                f"{Env.OPENEDX_OAUTH_PROVIDER}={lms_backend} and "
                f"{Env.OPENEDX_SOCIAL_LOGIN_PATH}={social_login_path(lms_backend)}"
            ),
        )


@check
class SignInHasNoLoop(Check):
    """Sign-in has no redirect loop.

    Symptom: the browser reports too many redirects.
    Cause: the application signs people in at its API gateway, and the LMS sends them to the
    application itself, where the session does not exist.
    Fix: MITx Online: set MITOL_APIGATEWAY_DISABLE_MIDDLEWARE=False in the `.env`, and start the
    gateway. Others: write the address where people sign in into the `.env`, as the application's
    base address. Then run `usher connect`.
    """

    id = "APP-7"
    essential = True
    depends_on = ("PRV-1", "PRV-2", "PRV-3", "NET-5", "APP-6")

    def probe(self, context: Context) -> Finding:
        visited, last_status = context.web.follow(context.lms.at(context.sign_in_path))
        repeated = [page for page, times in Counter(visited).items() if times >= _MAX_VISITS]
        if not repeated and last_status >= 500:
            return failed(
                f"sign-in leads to {visited[-1]}, which answers {last_status}",
                cause="the application's sign-in page fails, even without the LMS",
                fix="read the log of the server at that address; after an update, migrate its "
                "database",
            )
        if not repeated:
            return ok(f"it leads to {visited[-1]}")
        address_fix = (
            f"write the address where people sign in as the application's base address in "
            f"{ENV_FILE}, then {CONNECT}"
        )
        loop = f"redirects loop between {' and '.join(repeated[:2])}"
        if self._has_gateway(context):
            return failed(
                loop,
                cause=(
                    "the application signs people in at its API gateway only, and the LMS does "
                    "not send them there"
                ),
                fix="MITx Online: set MITOL_APIGATEWAY_DISABLE_MIDDLEWARE=False in "
                f"{ENV_FILE}, start the gateway, then {CONNECT}. Others: {address_fix}",
                repair="provision",
            )
        return failed(
            loop,
            cause="the application redirects people who are not signed in back to the same page",
            fix=address_fix,
            repair="provision",
        )

    def _has_gateway(self, context: Context) -> bool:
        """Whether the application signs people in at an API gateway; False if its report can't be
        obtained."""
        try:
            return context.application.report.get("signs_in_at_gateway", False)
        except NotKnownError:
            return False


#: This many requests for the same page show a loop. A sign-in that works requests a page at most
#: twice: before and after the person has signed in.
_MAX_VISITS = 3


@check
class AuthorizeAcceptsLmsRequest(Check):
    """The application's authorize page accepts what the LMS sends.

    Symptom: 400 at the application's authorize page, after the person has signed in.
    Cause: the application redirects only to https addresses and the LMS's address is http, or the
    request is refused for another reason.
    Fix: change the setting that the finding names.
    """

    id = "APP-8"
    depends_on = ("APP-1", "APP-2", "APP-3", "APP-7", "PRV-5")

    def probe(self, context: Context) -> Finding:
        answer = context.lms.get(context.sign_in_path)
        authorize_url = answer.headers.get("location", "")
        redirect_uri = query_of(authorize_url).get("redirect_uri", "")
        if not redirect_uri:
            return skipped(f"sign-in at the LMS answers {answer.status_code}, no redirect")
        schemes = context.application.report.get("redirect_schemes", [])
        scheme = urlsplit(redirect_uri).scheme
        if schemes and scheme not in schemes:
            return failed(
                f"the LMS's address is {scheme}, and the application redirects to "
                f"{', '.join(schemes)} only",
                cause="https_only is on in OAUTH2_PROVIDER, and the LMS is served without https",
                fix="https_only=False in defaults.apply() in the settings, or serve the LMS by "
                f"https; then {RESTART}",
            )
        parts = urlsplit(authorize_url)
        page = context.application.authorize(f"{parts.path}?{parts.query}")
        return self._judge_page(page, redirect_uri)

    def _judge_page(self, page: dict[str, Any], redirect_uri: str) -> Finding:
        """The finding about the authorize page's answer to the LMS's request. redirect_uri: the
        LMS's."""
        status, location = page.get("status"), page.get("location", "")
        if status is None:
            return skipped(f"the request needs a user: {page.get('text')}")
        leads_to_lms = location.startswith(redirect_uri.split("?")[0])
        if status == 302 and leads_to_lms:
            if error := query_of(location).get("error"):
                return self._refused(f"the application answers {error} to the LMS's request")
            return ok("the application gives the LMS a code")
        if status in (200, 302):  # a page of the application, such as consent or sign-in
            return ok(f"the application redirects to {location.split('?')[0] or 'a consent page'}")
        return self._refused(f"the authorize page answers {status}: {str(page.get('text'))[:160]}")

    def _refused(self, seen: str) -> Finding:
        return failed(
            seen,
            cause="the application refuses the request that the LMS's sign-in makes",
            fix=CONNECT,
            repair="provision",
        )


@check
class LearnersHaveUsernames(Check):
    """Learners have a username for the LMS.

    Symptom: a learner who signs in to the LMS sees a page that says that sign-in failed.
    Cause: the learner has not finished the application's profile page, so `api/users/me` answers
    without a username.
    Fix: the learner finishes the profile; with Usher in the LMS a page says so and links to it.
    """

    id = "APP-9"

    def probe(self, context: Context) -> Finding:
        unfinished = context.application.report.get("unfinished")
        if unfinished is None:
            raise NotKnownError("the application does not report unfinished profiles")
        if not unfinished.get("count"):
            return ok("every learner who signed in has a username for the LMS")
        return note(
            f"{quantity(unfinished['count'], 'learner has', 'learners have')} no username for the "
            f"LMS yet, such as {unfinished.get('sample')}",
            cause=(
                "they have not finished their profile in the application; the LMS asks them to "
                "finish it when they sign in"
            ),
        )


@check
class SessionCookiesDiffer(Check):
    """Browsers tell the sessions of the application and the LMS apart.

    Symptom: signing in to the application signs out of the LMS, and the reverse; sign-in from the
    LMS ends at the sign-in page.
    Cause: both are on one host, on any ports, and their session cookies have the same name.
    Fix: use another host name for one of them, or another SESSION_COOKIE_NAME in the application.
    """

    id = "APP-10"
    essential = True

    def probe(self, context: Context) -> Finding:
        cookie = context.application.report.get("session_cookie")
        if not cookie:
            raise NotKnownError("the application does not report the name of its session cookie")
        if not context.application.url or not context.lms.url:
            raise NotKnownError("the address of the application or of the LMS is not known")
        if not session_cookies_collide(context.application.url, cookie, context.lms.url):
            return ok(f"the application's session cookie {cookie} is not sent to the LMS")
        return failed(
            f"a browser has one session cookie, {cookie}, for the application at "
            f"{context.application.url} and the LMS at {context.lms.url}",
            cause="cookies don't depend on the port, and both session cookies have the same name",
            fix="use another host name for one of them, such as localhost in place of 127.0.0.1, "
            "or set another SESSION_COOKIE_NAME in the application's settings",
        )


@check
class LmsClientIsConfidential(Check):
    """The LMS's client is confidential.

    Symptom: none; but a stolen authorization code gives a learner's tokens without the
    secret.
    Cause: somebody set the client type to *public* in the application's admin.
    Fix: run `usher connect`, or choose *confidential* as the client type in the application's
    admin.
    """

    id = "APP-11"
    depends_on = ("PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        client = context.application.client(context.lms_client_id)
        client_type = client.get("client_type", "")
        if not client_type:
            raise NotKnownError("the application does not report the client's type")
        if client_type != "confidential":
            return failed(
                f"{client.get('name')} is {client_type}, not confidential",
                cause="the client was changed in the application's admin",
                fix=CONNECT,
                repair="provision",
            )
        return ok("the LMS's client needs its secret for every token")
