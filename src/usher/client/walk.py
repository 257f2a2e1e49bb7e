"""The authorization-code flow on a learner's behalf, in as few requests as the LMS allows.

Sign-in's own ``next`` is the LMS's authorize address, so sign-in and authorization are one chain:
start, complete, complete, authorize; the code is read from the last ``Location`` and the page it
leads to is never fetched. A learner who was registered a moment ago is signed in already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from usher.client.client import LmsClient
from usher.client.errors import HeldBack, LmsError, Misconfigured, SignInStopped
from usher.client.http import Answer
from usher.client.payloads import TokenPair
from usher.client.registration import check_start, raise_if_misconfigured
from usher.contract.failures import FailureClass
from usher.contract.paths import LmsPath

SCOPE = "read write"
_MAX_STEPS = 8
#: Of several requests, of which some can't be repeated alone, one fails easily.
_SIGN_INS = 6
_EXCHANGES = 3


@dataclass(frozen=True)
class GrantWanted:
    """What the LMS asked for a learner at the application's authorize address."""

    user_id: int
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str = ""
    code_challenge_method: str = ""


#: Gives the code for what the LMS asked.
Granting = Callable[[GrantWanted], str]


class Walk:
    """One learner's way. redirect_uri: the landing registered at the LMS for this application."""

    def __init__(self, lms: LmsClient, user_id: int, redirect_uri: str, grant: Granting) -> None:
        self._lms = lms
        self._user_id = user_id
        self._redirect_uri = redirect_uri
        self._grant = grant
        self._cookies: dict[str, str] = {}

    def tokens(self, cookies: dict[str, str] | None = None) -> TokenPair:
        """Tokens of the learner; ``cookies`` of a session that is signed in spare the sign-in.

        Raises SignInStopped when the LMS doesn't sign the learner in: its account of that name
        isn't linked to this application, is disabled, or belongs to somebody else.
        """
        self._cookies = dict(cookies or {})
        code = self._authorized() if cookies else ""
        code = code or _patiently(self._signed_in_code)
        for _ in range(_EXCHANGES - 1):
            try:
                return self._lms.exchange_code(code, self._redirect_uri)
            except LmsError as error:
                # The code may be spent although the answer was lost. The session is signed in: a
                # new one is one request away, where a new sign-in is four.
                code = self._authorized() if _passes(error) else ""
                if not code:
                    raise
        return self._lms.exchange_code(code, self._redirect_uri)

    def _authorized(self) -> str:
        """A code from a session that is signed in; '' when it isn't."""
        return self._code_of(self._get(self._authorize_path()))

    def _signed_in_code(self) -> str:
        """Starts the sign-in and follows the LMS's redirects until one carries the code."""
        self._cookies = {}
        path: str | None = self._complete_path(self._start())
        for _ in range(_MAX_STEPS):
            if path is None:
                break
            answer = self._get(path)
            if code := self._code_of(answer):
                return code
            path = self._next_path(answer)
        raise SignInStopped("The LMS went round in circles instead of signing the learner in.")

    def _start(self) -> str:
        """Where the LMS sends the learner to: this application's authorize address."""
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
        """The way back to the LMS with a code of this application, without asking itself."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(location).query).items()}
        back = asked.get("redirect_uri", "")
        path = self._lms.http.own_path(back)
        if path is None or not asked.get("state") or asked.get("response_type") != "code":
            raise Misconfigured(
                "The LMS's start of sign-in does not ask this application for a code: "
                "check AUTHORIZATION_URL in its provider record.",
                code="sign-in-elsewhere",
            )
        code = self._grant(
            GrantWanted(
                user_id=self._user_id,
                client_id=asked.get("client_id", ""),
                redirect_uri=back,
                scope=asked.get("scope", ""),
                code_challenge=asked.get("code_challenge", ""),
                code_challenge_method=asked.get("code_challenge_method", ""),
            )
        )
        joint = "&" if "?" in path else "?"
        return path + joint + urlencode({"code": code, "state": asked["state"]})

    def _authorize_path(self) -> str:
        asked = {
            "client_id": self._lms.who.client_id,
            "response_type": "code",
            "scope": SCOPE,
            "redirect_uri": self._redirect_uri,
        }
        return f"{LmsPath.AUTHORIZE}?{urlencode(asked)}"

    def _code_of(self, answer: Answer) -> str:
        """The code, when this answer is the redirect to our landing; '' otherwise."""
        location = answer.location
        if answer.status not in (301, 302, 303) or not location.startswith(self._redirect_uri):
            return ""
        query = dict(parse_qsl(urlsplit(location).query))
        if "error" in query:
            raise Misconfigured(
                f"The LMS refuses to authorize the application: {query['error'][:100]}.",
                code=query["error"][:64],
            )
        return query.get("code", "")

    def _next_path(self, answer: Answer) -> str:
        path = self._lms.http.own_path(answer.location) if answer.location else None
        if answer.status == 400:
            raise Misconfigured(
                "The LMS's authorize address refuses this application: compare its OAuth client, "
                f"whose redirect URIs must hold {self._redirect_uri}.",
                code="authorize-refused",
                status=400,
            )
        if answer.status not in (301, 302, 303) or path is None:
            raise SignInStopped(
                f"The LMS did not sign the learner in: it answered {answer.status}.",
                code=_why(answer),
                status=answer.status,
            )
        landing = urlsplit(path).path.rstrip("/")
        if landing in (LmsPath.LOGIN, LmsPath.REGISTER):
            raise SignInStopped(
                f"The LMS does not know the learner by this application: it leads to {landing}.",
                code="not-linked",
            )
        return path

    def _get(self, path: str) -> Answer:
        # Completing uses up a code and the session's state: only what comes before and after it
        # can be asked a second time.
        again = not path.startswith(LmsPath.sign_in_complete(self._lms.who.backend))
        answer = self._lms.http.request(
            "GET", path, cookies=self._cookies, headers={"Accept": "text/html"}, again=again
        )
        self._cookies.update(answer.cookies())
        return answer


def _passes(error: LmsError) -> bool:
    """Whether the same may well succeed at once: not while the circuit is open."""
    return error.failure_class is FailureClass.TRANSIENT and not isinstance(error, HeldBack)


def _patiently(sign_in: Callable[[], str]) -> str:
    """Repeats it from the start after a transient failure, which is likely among many requests."""
    for _ in range(_SIGN_INS - 1):
        try:
            return sign_in()
        except LmsError as error:
            if not _passes(error):
                raise
    return sign_in()


def _why(answer: Answer) -> str:
    if answer.status == 403 and b"disabled" in answer.body[:300]:
        return "account-disabled"
    return "sign-in-stopped"
