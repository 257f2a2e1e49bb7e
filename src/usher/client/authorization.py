"""The authorization-code flow on a learner's behalf, with as few requests as possible.

Sign-in starts with the LMS's authorize address as ``next``, so sign-in and authorization are one
chain of redirects: start, complete, complete, authorize. The code is in the ``Location`` of the
last answer, and that address is never requested. A learner whose account was registered a moment
ago is signed in already, and needs only the last step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from usher.client.client import LmsClient, api_error_of
from usher.client.errors import CircuitOpen, LmsError, Misconfigured, SignInStopped
from usher.client.http import Answer
from usher.client.payloads import TokenPair
from usher.client.registration import check_start, raise_if_misconfigured
from usher.contract.failures import FailureClass
from usher.contract.paths import LmsPath

SCOPE = "read write"
_MAX_REDIRECTS = 8
#: How often sign-in is started when transient failures interrupt it. A sign-in takes several
#: requests, and some of these can't be repeated alone, so that each failure needs a new start.
_MAX_SIGN_INS = 6
#: How many codes are exchanged for tokens before giving up.
_MAX_EXCHANGES = 3


@dataclass(frozen=True)
class AuthorizationRequest:
    """The LMS's request at the application's authorize address, in the name of one learner.

    user_id: the learner's id in the application. All other fields: parameters of the OAuth2
    authorization request, '' if absent.
    """

    user_id: int
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str = ""
    code_challenge_method: str = ""


#: Returns the application's authorization code for a request of the LMS.
GrantCode = Callable[[AuthorizationRequest], str]


class AuthorizationFlow:
    """The flow of one learner.

    user_id: the learner's id in the application. redirect_uri: the redirect URI that the LMS has
    for the application's OAuth client. grant: returns the application's code when the LMS requests
    one.
    """

    def __init__(self, lms: LmsClient, user_id: int, redirect_uri: str, grant: GrantCode) -> None:
        self._lms = lms
        self._user_id = user_id
        self._redirect_uri = redirect_uri
        self._grant = grant
        #: The cookies of the learner's session in the LMS.
        self._cookies: dict[str, str] = {}

    def tokens(self, cookies: dict[str, str] | None = None) -> TokenPair:
        """The learner's tokens. cookies: the cookies of an LMS session that is signed in already,
        if there is one; they save the sign-in.

        Raises SignInStopped if the LMS doesn't sign the learner in: the LMS account isn't linked to
        this application, is disabled, or belongs to somebody else. Raises Misconfigured if the
        provider record or the OAuth client is wrong.
        """
        self._cookies = dict(cookies or {})
        code = self._code_of_session() if cookies else ""
        code = code or _with_retries(self._code_by_sign_in)
        for _ in range(_MAX_EXCHANGES - 1):
            try:
                return self._lms.exchange_code(code, self._redirect_uri)
            except LmsError as error:
                # The code may have been used although the answer was lost. The session is signed
                # in, so a new code takes one request; a new sign-in takes four.
                code = self._code_of_session() if _may_succeed_immediately(error) else ""
                if not code:
                    raise
        return self._lms.exchange_code(code, self._redirect_uri)

    def _code_of_session(self) -> str:
        """A code from a session that is signed in; '' if the session isn't signed in."""
        return self._code_of(self._get(self._authorize_path()))

    def _code_by_sign_in(self) -> str:
        """Starts the sign-in and follows the LMS's redirects until one contains the code."""
        self._cookies = {}
        path: str | None = self._complete_path(self._start())
        for _ in range(_MAX_REDIRECTS):
            if path is None:
                break
            answer = self._get(path)
            if code := self._code_of(answer):
                return code
            path = self._next_path(path, answer)
        raise SignInStopped(
            f"The LMS did not sign the learner in: it redirected more than {_MAX_REDIRECTS} times."
        )

    def _start(self) -> str:
        """Starts the sign-in. Returns the address that the LMS redirects to: this application's
        authorize address."""
        path = LmsPath.sign_in_start(self._lms.who.backend)
        query = urlencode({"auth_entry": "login", "next": self._authorize_path()})
        try:
            answer = self._get(f"{path}?{query}")
        except LmsError as error:
            if error.status and error.status >= 500:
                raise_if_misconfigured(self._lms)
            raise
        return check_start(self._lms, answer)

    def _complete_path(self, location: str) -> str:
        """The path at which the LMS receives this application's code. The code comes from
        ``grant``, so the application needs no request to itself."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        lms_redirect_uri = query.get("redirect_uri", "")
        path = self._lms.http.own_path(lms_redirect_uri)
        if path is None or not query.get("state") or query.get("response_type") != "code":
            raise Misconfigured(
                "The LMS's sign-in does not request a code from this application. Check "
                "AUTHORIZATION_URL in its provider record.",
                code="sign-in-elsewhere",
            )
        code = self._grant(
            AuthorizationRequest(
                user_id=self._user_id,
                client_id=query.get("client_id", ""),
                redirect_uri=lms_redirect_uri,
                scope=query.get("scope", ""),
                code_challenge=query.get("code_challenge", ""),
                code_challenge_method=query.get("code_challenge_method", ""),
            )
        )
        separator = "&" if "?" in path else "?"
        return path + separator + urlencode({"code": code, "state": query["state"]})

    def _authorize_path(self) -> str:
        """The LMS's address, without host, that grants a code to the application's OAuth client."""
        query = {
            "client_id": self._lms.who.client_id,
            "response_type": "code",
            "scope": SCOPE,
            "redirect_uri": self._redirect_uri,
        }
        return f"{LmsPath.AUTHORIZE}?{urlencode(query)}"

    def _code_of(self, answer: Answer) -> str:
        """The code, if this answer redirects to the redirect URI; '' otherwise. Raises
        Misconfigured if the redirect contains an error."""
        location = answer.location
        if answer.status not in (301, 302, 303) or not location.startswith(self._redirect_uri):
            return ""
        query = dict(parse_qsl(urlsplit(location).query))
        if "error" in query:
            reason = query.get("error_description") or query["error"]
            raise Misconfigured(
                f"The LMS refuses to authorize the application: {reason[:200]}.",
                code=query["error"][:64],
            )
        return query.get("code", "")

    def _next_path(self, requested_path: str, answer: Answer) -> str:
        """The target of the redirect that answers the request for ``requested_path``. Raises
        SignInStopped or Misconfigured if the sign-in ends here."""
        path = self._lms.http.own_path(answer.location) if answer.location else None
        if answer.status == 400 and not requested_path.startswith(LmsPath.AUTHORIZE):
            raise api_error_of(self._lms, answer)
        if answer.status == 400:
            raise Misconfigured(
                "The LMS refuses to authorize this application. Check the application's OAuth "
                f"client in the LMS: {self._redirect_uri} must be among its redirect URIs.",
                code="authorize-refused",
                status=400,
            )
        if answer.status not in (301, 302, 303) or path is None:
            raise SignInStopped(
                f"The LMS did not sign the learner in: it answered {answer.status}.",
                code=_stop_code(answer),
                status=answer.status,
            )
        page = urlsplit(path).path.rstrip("/")
        if page in (LmsPath.LOGIN, LmsPath.REGISTER):
            raise SignInStopped(
                "The LMS has no account that is linked to this learner of the application: it "
                f"redirects to the page {page} instead.",
                code="not-linked",
            )
        return path

    def _get(self, path: str) -> Answer:
        """Sends a GET with the session's cookies, and adds those of the answer to the session."""
        # The request that completes sign-in uses up the code and the session's state, so it can't
        # be sent a second time.
        may_repeat = not path.startswith(LmsPath.sign_in_complete(self._lms.who.backend))
        answer = self._lms.http.request(
            "GET", path, cookies=self._cookies, headers={"Accept": "text/html"}, again=may_repeat
        )
        self._cookies.update(answer.cookies())
        return answer


def _may_succeed_immediately(error: LmsError) -> bool:
    """Whether the same request may succeed now: after a transient failure, unless the circuit
    breaker is open."""
    return error.failure_class is FailureClass.TRANSIENT and not isinstance(error, CircuitOpen)


def _with_retries(sign_in: Callable[[], str]) -> str:
    """The result of ``sign_in``, which is repeated a few times after transient failures."""
    for _ in range(_MAX_SIGN_INS - 1):
        try:
            return sign_in()
        except LmsError as error:
            if not _may_succeed_immediately(error):
                raise
    return sign_in()


def _stop_code(answer: Answer) -> str:
    """The error code for an answer that ends the sign-in."""
    if answer.status == 403 and b"disabled" in answer.body[:300]:
        return "account-disabled"
    return "sign-in-stopped"
