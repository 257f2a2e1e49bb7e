"""The application's OAuth2 provider, which the LMS relies on."""

import contextlib
import socket
from urllib.parse import urlsplit

import httpx

from usher.contract.environment import Env
from usher.contract.oauth import BACKENDS, SCOPE_USER_READ, social_login_path
from usher.contract.paths import ApplicationPath, LmsPath
from usher.doctor.check import Check, Finding, check, failed, ok, skipped
from usher.doctor.context import Context
from usher.doctor.facts.web import origin, query_of
from usher.doctor.fixes import CONNECT, setting

_PASSWORD_HASHERS = ("pbkdf2", "bcrypt", "argon2", "scrypt")


@check
class RedirectIsRegistered(Check):
    """The application lets the code go to the LMS.

    Symptom: a page that says "Mismatching redirect URI".
    Cause: the LMS's address, with its port and scheme, is not among the record's redirect URIs.
    Fix: register what the LMS sends.
    """

    id = "APP-1"
    depends_on = ("PRV-1", "PRV-2", "PRV-3", "NET-5", "APP-6")

    def probe(self, context: Context) -> Finding:
        answer = context.lms.get(context.sign_in_start)
        sent = query_of(answer.headers.get("location", "")).get("redirect_uri", "")
        if not sent:
            return skipped(f"sign-in at the LMS answers {answer.status_code}, no redirect")
        address = sent.split("?")[0]
        known = context.application.client(context.lms_client_id).get("redirect_uris", [])
        if address in known:
            return ok(f"{address} is registered")
        return failed(
            f"the LMS sends {address}; registered: {', '.join(known) or 'nothing'}",
            cause="the LMS's address changed, or was registered with another port or scheme",
            fix=f"{CONNECT} (registers {address} for the LMS's client)",
            repair="redirect-uri",
        )


@check
class PkceFitsBackend(Check):
    """PKCE is not asked of a backend that does not send it.

    Symptom: `invalid_request: Code challenge required`.
    Cause: the OAuth toolkit requires PKCE by default; these backends don't send it.
    Fix: relax it for that one client.
    """

    id = "APP-2"
    depends_on = ("PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        client = context.application.client(context.lms_client_id)
        backend = BACKENDS.get(context.backend)
        if client.get("pkce_required") and backend is not None and not backend.sends_pkce:
            return failed(
                f"PKCE is required of {client.get('name')}, and {backend.name} does not send it",
                cause="the OAuth toolkit requires PKCE unless told otherwise",
                fix="switch off 'PKCE required' of that client in the application's admin",
                repair="relax-pkce",
            )
        return ok("PKCE is asked of whoever sends it")


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
                f"the provider's scopes are {', '.join(scopes) or 'none'}",
                cause=f"{SCOPE_USER_READ} is missing, so no token may read api/users/me",
                fix=f'OAUTH2_PROVIDER["SCOPES"]["{SCOPE_USER_READ}"] = "Read your profile"',
            )
        return ok(f"{SCOPE_USER_READ} is among the scopes")


@check
class ServerAnswersMeanwhile(Check):
    """The application answers while another request is under way.

    Symptom: registration times out.
    Cause: the LMS calls back while the application waits for it; a server with a single thread
    can't answer.
    Fix: more threads.
    """

    id = "APP-4"
    depends_on = ("NET-1",)

    def probe(self, context: Context) -> Finding:
        application = context.application
        application.get(ApplicationPath.USERS_ME)
        url = application.url
        _, host, port = origin(url)
        if urlsplit(url).scheme == "https":
            return skipped("a proxy stands in front of the application")
        with contextlib.ExitStack() as stack:
            # As many as the LMS may keep waiting at once: one would do for a single thread.
            for _ in range(2):
                held = stack.enter_context(socket.create_connection((host, port), timeout=2))
                held.sendall(f"GET {ApplicationPath.USERS_ME} HTTP/1.1\r\nHost: {host}".encode())
            try:
                httpx.get(url.rstrip("/") + ApplicationPath.USERS_ME, timeout=1.5, trust_env=False)
            except httpx.TimeoutException:
                return failed(
                    "the application does not answer while another request is under way",
                    cause="its server has a single thread; the LMS's call-back waits for ever",
                    fix="granian --interface wsgi --blocking-threads 16, or gunicorn --threads 16",
                )
        return ok("it answers while other requests are under way")


@check
class ClientSecretIsCheap(Check):
    """Checking the LMS's secret costs next to nothing.

    Symptom: the token endpoint takes hundreds of milliseconds.
    Cause: the client's secret is hashed like a password, slow on purpose; a random secret needs
    no such thing.
    Fix: the keyed hasher; a stored secret is hashed anew at its next use.
    """

    id = "APP-5"
    depends_on = ("PRV-1", "PRV-2")

    def probe(self, context: Context) -> Finding:
        hasher = context.application.client(context.lms_client_id).get("secret_hasher", "")
        if hasher.startswith(_PASSWORD_HASHERS):
            return failed(
                f"the LMS's client secret is hashed with {hasher}",
                cause="a password hasher is slow on purpose",
                fix='OAUTH2_PROVIDER["CLIENT_SECRET_HASHER"] = "usher_keyed", then lay the secret '
                "again: usher connect",
            )
        return ok(f"its secret is hashed with {hasher or 'nothing slow'}")


@check
class BackendNamesAgree(Check):
    """Both sides mean the same sign-in backend.

    Symptom: "Mismatching redirect URI", or 404 at sign-in, right after the set-up.
    Cause: the LMS has `ol-oauth2` and the application asks for `mitxpro-oauth2`, or the reverse.
    Fix: one name on both sides.
    """

    id = "APP-6"
    depends_on = ("ENV-1", "ENV-3", "LMS-1")

    def probe(self, context: Context) -> Finding:
        backend = context.backend
        path = context.sign_in_start
        if path.startswith("/auth/login/") and LmsPath.sign_in_start(backend) not in path:
            return self._failed(
                f"{Env.OPENEDX_OAUTH_PROVIDER} is {backend}, "
                f"{Env.OPENEDX_SOCIAL_LOGIN_PATH} is {path}",
                backend,
            )
        enabled = [row for row in context.lms.report.get("providers", []) if row.get("enabled")]
        names = sorted({str(row.get("backend_name")) for row in enabled} - {"None"})
        if names and not context.lms.providers(backend):
            return self._failed(
                f"the application asks for {backend}, the LMS has {', '.join(names)}", names[0]
            )
        return ok(f"both sides say {backend}")

    def _failed(self, seen: str, right: str) -> Finding:
        return failed(
            seen,
            cause="the two sides were set up with different backends",
            fix=setting(
                f"{Env.OPENEDX_OAUTH_PROVIDER}={right} and "
                f"{Env.OPENEDX_SOCIAL_LOGIN_PATH}={social_login_path(right)}"
            ),
        )
