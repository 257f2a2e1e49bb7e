"""The one client of the LMS: a method for each thing the application asks of it.

Paths and answers: the recorded exchanges of a real LMS. Every method may raise what
``lms.errors`` draws; those that return None say when.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from usher.client import payloads
from usher.client.errors import (
    AccessRefused,
    BadAnswer,
    EnrollmentRefused,
    InvalidGrant,
    LmsError,
    Misconfigured,
    NotTheLms,
    NotThere,
    Refused,
)
from usher.client.http import Answer, Http
from usher.contract.limits import COURSE_LIST_PAGE_SIZE
from usher.contract.paths import LmsPath, in_path

#: What the LMS throttles together, and what fails together: each has a circuit breaker of its own.
COURSES, MODES, REGISTRATION, ENROLLMENT = "courses", "modes", "registration", "enrollment"
ACCOUNTS, TOKENS, GRADES, CERTIFICATES = "accounts", "tokens", "grades", "certificates"
#: All of them, with the batch API and what belongs to no API.
GROUPS = (
    *(COURSES, MODES, REGISTRATION, ENROLLMENT, ACCOUNTS, TOKENS, GRADES, CERTIFICATES),
    *("batch", "pages"),
)
#: Usernames in one address.
NAMES_A_REQUEST = 100
_MISMATCH = "mode mismatch"
_DEACTIVATE = "/api/user/v1/accounts/{username}/deactivate/"


@dataclass(frozen=True)
class Credentials:
    """Who the application is for the LMS; not shown in reports, see ``__repr__``."""

    service_worker: str
    service_token: str
    client_id: str
    client_secret: str
    backend: str
    registration_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(service_worker={self.service_worker!r}, backend={self.backend!r})"


class LmsClient:
    """Stateless over ``http``; safe to use from any number of threads."""

    def __init__(self, http: Http, credentials: Credentials) -> None:
        self.http = http
        self.who = credentials
        self._confirming = threading.Lock()
        self._confirmed: tuple[float, LmsError | None] = (0.0, None)

    # Accounts

    def me(self, token: str) -> str:
        """The username that a token belongs to. AccessRefused when it is no good."""
        answer = self.http.request("GET", LmsPath.ME, group=ACCOUNTS, token=token)
        body = _accepted(answer)
        return payloads.reading("the owner of a token", lambda: str(body["username"]))

    def account(self, username: str) -> payloads.AccountSeen | None:
        """As the service worker sees it; None when the LMS has no account of that name."""
        found = self.accounts([username])
        by_case = {name.casefold(): account for name, account in found.items()}
        return found.get(username) or by_case.get(username.casefold())

    def accounts(self, usernames: Sequence[str]) -> dict[str, payloads.AccountSeen]:
        """Those of the usernames that the LMS has, by their name.

        The service worker's own account is asked for with them. That an account is absent is
        believed only of an answer that holds this one: raises NotTheLms otherwise.
        """
        found: dict[str, payloads.AccountSeen] = {}
        step = NAMES_A_REQUEST - 1
        for start in range(0, len(usernames), step):
            found |= self._accounts(usernames[start : start + step])
        return found

    def _accounts(self, usernames: Sequence[str]) -> dict[str, payloads.AccountSeen]:
        control = self.who.service_worker
        asked = [*usernames, *([control] if control and control not in usernames else [])]
        path = f"{LmsPath.ACCOUNTS}?{urlencode({'username': ','.join(asked)})}"
        try:
            data = self._get(path, ACCOUNTS, may_lack=True)
        except NotThere:
            data = []
        if not isinstance(data, list):
            raise BadAnswer("The LMS answered a list of accounts in a shape that is not known.")
        seen = {account.username: account for account in map(payloads.read_account, data)}
        if control.casefold() not in {name.casefold() for name in seen}:
            raise NotTheLms(
                f"The LMS shows no account of its service worker {control!r}, so nothing follows "
                f"from what else it doesn't show. Does another LMS answer at {self.http.base_url}, "
                "or is OPENEDX_SERVICE_WORKER_USERNAME wrong?"
            )
        wanted = {name.casefold() for name in usernames}
        return {name: account for name, account in seen.items() if name.casefold() in wanted}

    def account_by_email(self, email: str) -> payloads.AccountSeen | None:
        """None when the LMS shows none; that the LMS answers rightly is for ``confirm`` to say."""
        try:
            path = f"{LmsPath.ACCOUNTS}?{urlencode({'email': email})}"
            data = self._get(path, ACCOUNTS, may_lack=True)
        except NotThere:
            return None
        found = data if isinstance(data, list) else [data]
        seen = [payloads.read_account(one) for one in found]
        return next((one for one in seen if one.email.casefold() == email.casefold()), None)

    def confirm(self) -> None:
        """The positive control for what can't hold one in its own answer: the LMS knows the
        service worker. Raises LmsError when that is not seen.

        Threads that wait for the same question share an answer that was asked for after they came.
        """
        came = time.monotonic()
        with self._confirming:
            asked, error = self._confirmed
            if asked <= came:
                asked, error = time.monotonic(), None
                try:
                    self._accounts([])
                except Refused as problem:
                    error = NotTheLms(
                        f"What answers at {self.http.base_url} refuses a question that the LMS "
                        f"answers: {problem.message}",
                        status=problem.status,
                    )
                except LmsError as problem:
                    error = problem
                self._confirmed = asked, error
        if error is not None:
            raise error

    def change_account(self, username: str, changes: Mapping[str, str], token: str) -> None:
        """Full name and country, by the learner's own token: staff is refused (recorded)."""
        answer = self.http.request(
            "PATCH",
            f"{LmsPath.ACCOUNTS}/{in_path(username)}",
            group=ACCOUNTS,
            token=token,
            json_body=changes,
            headers={"Content-Type": "application/merge-patch+json"},
            again=True,
        )
        if payloads.read_account(_accepted(answer)).username.casefold() != username.casefold():
            raise BadAnswer("The LMS answered a change of one account with another account.")

    def deactivate_account(self, username: str) -> None:
        """Only where the service worker was given the right to; AccessRefused elsewhere. The LMS
        shows afterwards that the account is inactive."""
        answer = self.http.request(
            "POST",
            _DEACTIVATE.format(username=in_path(username)),
            group=ACCOUNTS,
            token=self.who.service_token,
            again=True,
        )
        if answer.status in (404, 405):
            self.confirm()
            raise AccessRefused(
                "The LMS has no such endpoint, or hides it.", code="no-endpoint", status=404
            )
        _accepted(answer)
        seen = self.account(username)
        if seen is not None and seen.is_active:
            raise BadAnswer(f"The LMS still shows {username} as active after deactivating it.")

    # Runs

    def runs_page(self, page: int, keys: Iterable[str] = ()) -> payloads.RunPage:
        """A page of a hundred runs, those of ``keys`` or all. 404 past the last page: NotThere."""
        params: dict[str, Any] = {"page": page, "page_size": COURSE_LIST_PAGE_SIZE}
        if self.who.service_worker:
            params["username"] = self.who.service_worker
        if keys:
            params["course_keys"] = list(keys)
        # An LMS without any run has a first page, and it is empty.
        data = self._get(LmsPath.COURSES, COURSES, params, may_lack=page > 1)
        return payloads.read_page(data)

    def run_modes(self, course_key: str) -> list[payloads.ModeSeen]:
        path = LmsPath.COURSE_MODES.format(course_key=in_path(course_key))
        found = payloads.read_modes(self._get(path, MODES, subject=course_key))
        if not found:
            self.confirm()
        return found

    # Enrollments and what comes of them

    def enroll(
        self, username: str, course_key: str, *, mode: str, is_active: bool, force: bool = False
    ) -> payloads.EnrollmentSeen:
        """Sets one enrollment's mode and activity; safe to repeat.

        ``mode`` '' leaves the mode as it is: to unenroll, the platform wants the active one or
        none.
        """
        body: dict[str, Any] = {
            "user": username,
            "course_details": {"course_id": course_key},
            "is_active": is_active,
        }
        if mode:
            body["mode"] = mode
        if force:
            body["force_enrollment"] = True
        answer = self.http.request(
            "POST",
            LmsPath.ENROLLMENT,
            group=ENROLLMENT,
            json_body=body,
            token=self.who.service_token,
            again=True,
        )
        return payloads.read_enrollment(_enrolled(answer))

    def enrollment(self, username: str, course_key: str) -> payloads.EnrollmentSeen | None:
        """None when the learner was never enrolled in that run: the LMS answers an empty body,
        as others may, so that is believed only when it knows the learner then."""
        path = f"{LmsPath.ENROLLMENT}/{in_path(username)},{in_path(course_key)}"
        answer = self.http.request("GET", path, group=ENROLLMENT, token=self.who.service_token)
        if answer.status == 404:
            raise _not_staff()
        if answer.status == 200 and answer.body.strip() in (b"", b"null"):
            if self.account(username) is None:
                raise EnrollmentRefused(
                    f"The LMS has no account named {username}.", code="unknown-user"
                )
            return None
        return payloads.read_enrollment(_accepted(answer))

    def enrollments_of(self, usernames: Iterable[str]) -> Iterator[payloads.ListedEnrollment]:
        """All enrollments of at most a hundred learners, inactive ones too."""
        path = f"{LmsPath.ENROLLMENTS}?{urlencode({'username': ','.join(usernames)})}"
        for data in self._pages(path, ENROLLMENT):
            yield from payloads.read_enrollments(data)

    def _pages(self, path: str | None, group: str, subject: str = "") -> Iterator[Any]:
        """A list and what its ``next`` leads to."""
        seen: set[str] = set()
        asked = urlsplit(path).path if path else ""
        while path:
            if path in seen or len(seen) >= payloads.MAX_PAGES:
                raise BadAnswer(f"The LMS's list of {group} does not end.")
            seen.add(path)
            data = self._get(path, group, subject=subject)
            yield data
            following = data.get("next") if isinstance(data, dict) else None
            path = self._next_page(asked, following) if following else None

    def _next_page(self, asked: str, following: Any) -> str:
        """The path of the next page. An LMS behind a proxy may name another scheme or host than
        it is reached by; only the query is taken from it. Raises BadAnswer for another list: half
        of a list must not pass for a whole one."""
        try:
            url = urlsplit(following if isinstance(following, str) else "")
        except ValueError as error:
            raise BadAnswer("The LMS's next page has no address that can be read.") from error
        query = quote(url.query, safe="%&=+/:?@!$'()*,;-._~")
        if unquote(url.path) != unquote(asked) or not query:
            raise BadAnswer("The LMS's list goes on at another address than its own.")
        return f"{asked}?{query}"

    def grade(self, username: str, course_key: str) -> payloads.GradeSeen | None:
        path = LmsPath.GRADES.format(course_key=in_path(course_key))
        data = self._get(path, GRADES, {"username": username}, subject=course_key)
        return payloads.read_grade(data)

    def grades_of_run(self, course_key: str) -> Iterator[tuple[str, payloads.GradeSeen]]:
        """Usernames of the run's active learners, with their grades."""
        path = f"{LmsPath.GRADES.format(course_key=in_path(course_key))}?page_size=100"
        for data in self._pages(path, GRADES, subject=course_key):
            yield from payloads.read_grades(data)

    def certificates(self, username: str) -> list[payloads.CertificateSeen]:
        path = LmsPath.CERTIFICATES.format(username=in_path(username))
        return payloads.read_certificates(self._get(path, CERTIFICATES, subject=username))

    # Tokens

    def exchange_code(self, code: str, redirect_uri: str) -> payloads.TokenPair:
        """InvalidGrant when the code is no longer good."""
        return self._tokens(
            {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        )

    def refresh(self, refresh_token: str) -> payloads.TokenPair:
        """InvalidGrant when the refresh token was used or revoked: authorize again."""
        return self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def _tokens(self, form: dict[str, str]) -> payloads.TokenPair:
        now = datetime.now(UTC)
        form |= {"client_id": self.who.client_id, "client_secret": self.who.client_secret}
        answer = self.http.request("POST", LmsPath.ACCESS_TOKEN, group=TOKENS, form=form)
        body = answer.json_or_none()
        error = body.get("error") if isinstance(body, dict) else None
        if error == "invalid_grant":
            raise InvalidGrant("The LMS does not take this code or refresh token any more.")
        if answer.status in (400, 401, 403):
            raise Misconfigured(
                f"The LMS refuses the application's OAuth client: {error or answer.status}. "
                "Compare OPENEDX_API_CLIENT_ID and OPENEDX_API_CLIENT_SECRET with its record.",
                code=str(error or "client-refused"),
                status=answer.status,
            )
        return payloads.read_tokens(_accepted(answer), now)

    def _get(
        self,
        path: str,
        group: str,
        params: Mapping[str, Any] | None = None,
        *,
        subject: str = "",
        may_lack: bool = False,
    ) -> Any:
        """may_lack: 404 without a code is an answer of this endpoint. The others say with a code
        what they don't know, and 404 without one means that the endpoint isn't there."""
        answer = self.http.request(
            "GET",
            path,
            group=group,
            params=params,
            token=self.who.service_token,
            subject=subject,
        )
        try:
            return _accepted(answer)
        except NotThere as error:
            if may_lack or error.code != NotThere.default_code:
                raise
            raise NotTheLms(
                f"What answers at {self.http.base_url} has no {group}: it is not the LMS.",
                status=404,
            ) from error


def _accepted(answer: Answer) -> Any:
    """The JSON of a good answer, None for an empty one; raises for every other status."""
    if answer.status < 300:
        return answer.json() if answer.body else None
    raise refusal(answer)


def refusal(answer: Answer) -> LmsError:
    """The error that a status which is neither good nor a failure stands for.

    Only what has the LMS's own form is taken for its word about one learner or run.
    """
    return _refusal(answer).of_request(answer.request_id)


def _refusal(answer: Answer) -> LmsError:
    code, message = said(answer)
    if answer.status in (401, 403):
        return AccessRefused(
            f"The LMS refuses access ({answer.status}): {message}",
            code=code or f"http-{answer.status}",
            status=answer.status,
        )
    if not _in_the_form_of_the_lms(answer):
        return not_the_lms(answer)
    kind = NotThere if answer.status == 404 else Refused
    return kind(f"The LMS refuses: {message}", code=code, status=answer.status)


def _in_the_form_of_the_lms(answer: Answer) -> bool:
    """Its REST framework answers a refusal with JSON, or with nothing but its own headers."""
    if answer.status not in (400, 404, 406, 409, 422):
        return False
    if not answer.body:
        return "allow" in answer.headers
    return isinstance(answer.json_or_none(), dict | list)


def not_the_lms(answer: Answer) -> NotTheLms:
    kind = str(answer.headers.get("content-type", "")).split(";")[0] or "no content type"
    return NotTheLms(
        f"What answered ({answer.status}, {kind[:40]}) is not the LMS but a proxy without its "
        "backend, a sign-in page or another application. Check OPENEDX_API_BASE_URL and the proxy.",
        status=answer.status,
    )


def said(answer: Answer) -> tuple[str, str]:
    """The LMS's code and words in an answer, ('', 'status …') when it has none."""
    body = answer.json_or_none()
    if not isinstance(body, dict):
        return "", f"status {answer.status} without a reason"
    code = body.get("error_code") or body.get("error") or ""
    words = body.get("developer_message") or body.get("detail") or body.get("message")
    if not words and "field_errors" in body:
        words = json.dumps(body["field_errors"])
    if not (words or code) and body:
        # Django REST framework: field of each error → messages.
        words = json.dumps(body, ensure_ascii=False)
    return str(code)[:64], str(words or code or f"status {answer.status}")[:400]


def _enrolled(answer: Answer) -> Any:
    if answer.status in (400, 406):
        if not _in_the_form_of_the_lms(answer):
            raise not_the_lms(answer)
        _, message = said(answer)
        code = _enrollment_code(message)
        refused = EnrollmentRefused(message, code=code, status=answer.status)
        raise refused.of_request(answer.request_id)
    if answer.status == 404:
        # The platform hides from a caller that isn't staff whether the learner exists.
        raise _not_staff()
    return _accepted(answer)


def _not_staff() -> AccessRefused:
    return AccessRefused(
        "The LMS does not let the service worker enroll others: make it staff there.",
        code="service-worker-not-staff",
        status=404,
    )


def _enrollment_code(message: str) -> str:
    words = message.lower()
    for part, code in (
        (_MISMATCH, "mode-mismatch"),
        ("no course", "unknown-run"),
        ("does not exist", "unknown-user"),
        ("mode", "mode-not-offered"),
    ):
        if part in words:
            return code
    return "enrollment-refused"
