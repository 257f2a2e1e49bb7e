"""The client of the LMS: a method for each request that the application makes.

Source of paths and answers: the recorded exchanges of a real LMS (``tests/recordings``). Every
method may raise the errors of ``usher.client.errors``.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from usher.contract.refusals import sentence_of

#: Groups of endpoints. Each group has a rate limit of the LMS and a circuit breaker of its own.
COURSES, MODES, REGISTRATION, ENROLLMENT = "courses", "modes", "registration", "enrollment"
ACCOUNTS, TOKENS, GRADES, CERTIFICATES = "accounts", "tokens", "grades", "certificates"
#: All groups, including the batch API and the pages that belong to no API.
GROUPS = (
    COURSES,
    MODES,
    REGISTRATION,
    ENROLLMENT,
    ACCOUNTS,
    TOKENS,
    GRADES,
    CERTIFICATES,
    "batch",
    "pages",
)
#: The most usernames in one request.
NAMES_A_REQUEST = 100
#: The keys of course runs in the LMS's paths, as its ``COURSE_KEY_PATTERN``.
_COURSE_KEY = re.compile(r"[^/+]+[/+][^/+]+[/+][^/?]+")
_DEACTIVATION_PATH = "/api/user/v1/accounts/{username}/deactivate/"


@dataclass(frozen=True)
class Credentials:
    """The application's credentials in the LMS. ``repr`` leaves the secrets out.

    service_worker, service_token: username and access token of the LMS account that the application
    acts as. client_id, client_secret: its OAuth client. backend: the LMS's sign-in backend for the
    application. registration_token: for an LMS that restricts registration, else ''.
    """

    service_worker: str
    service_token: str
    client_id: str
    client_secret: str
    backend: str
    registration_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(service_worker={self.service_worker!r}, backend={self.backend!r})"


class LmsClient:
    """Requests to one LMS over ``http``. Safe to use from any number of threads."""

    def __init__(self, http: Http, credentials: Credentials) -> None:
        self.http = http
        self.who = credentials
        self._confirm_lock = threading.Lock()
        #: When ``confirm_lms`` last sent a request, and the error of that request, or None.
        self._last_confirmation: tuple[float, LmsError | None] = (0.0, None)

    # Accounts

    def me(self, token: str) -> str:
        """The username that ``token`` belongs to. Raises AccessRefused if the token is invalid."""
        answer = self.http.request("GET", LmsPath.ME, group=ACCOUNTS, token=token)
        body = _json_or_refusal(answer)
        return payloads.reading("the owner of a token", lambda: str(body["username"]))

    def account(self, username: str) -> payloads.ObservedAccount | None:
        """The account with that username, ignoring case; None if the LMS has no such account."""
        accounts = self.accounts([username])
        by_case = {name.casefold(): account for name, account in accounts.items()}
        return accounts.get(username) or by_case.get(username.casefold())

    def accounts(self, usernames: Sequence[str]) -> dict[str, payloads.ObservedAccount]:
        """Username → account, for those of ``usernames`` that the LMS has.

        Each request also asks for the service worker's own account. An answer without it proves
        nothing about the others: raises NotTheLms. Raises BadValue if one of the accounts has a
        value that can't be stored.
        """
        return {name: payloads.read_account(data) for name, data in self._account_data(usernames)}

    def existing(self, usernames: Sequence[str]) -> frozenset[str]:
        """Those of ``usernames`` that the LMS has an account of. Unlike ``accounts``, reads only
        the usernames, so it does not fail if another value of one account is malformed."""
        return frozenset(name for name, _ in self._account_data(usernames))

    def _account_data(self, usernames: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Yields username and data of each of these accounts that the LMS has."""
        step = NAMES_A_REQUEST - 1  # one name in each request is the service worker's
        for start in range(0, len(usernames), step):
            yield from self._request_accounts(usernames[start : start + step])

    def _request_accounts(self, usernames: Sequence[str]) -> list[tuple[str, Any]]:
        """``_account_data`` by one request."""
        service_worker = self.who.service_worker
        names = list(usernames)
        if service_worker and service_worker not in names:
            names.append(service_worker)
        path = f"{LmsPath.ACCOUNTS}?{urlencode({'username': ','.join(names)})}"
        try:
            data = self._get(path, ACCOUNTS, has_plain_404=True)
        except NotThere:
            data = []  # the LMS has none of these accounts
        if not isinstance(data, list):
            raise BadAnswer("The LMS answered a request for accounts with something else.")
        accounts = [(payloads.read_username(item), item) for item in data]
        if service_worker.casefold() not in {name.casefold() for name, _ in accounts}:
            raise NotTheLms(
                f"The LMS at {self.http.base_url} doesn't show the account of the service worker "
                f"{service_worker!r}, so its answer proves nothing about other accounts. Check "
                "that the right LMS answers there, and OPENEDX_SERVICE_WORKER_USERNAME."
            )
        names_casefolded = {name.casefold() for name in usernames}
        return [(name, item) for name, item in accounts if name.casefold() in names_casefolded]

    def account_by_email(self, email: str) -> payloads.ObservedAccount | None:
        """The account with that e-mail address; None if the LMS shows no such account. None proves
        an absence only if ``confirm_lms`` succeeds afterwards."""
        try:
            path = f"{LmsPath.ACCOUNTS}?{urlencode({'email': email})}"
            data = self._get(path, ACCOUNTS, has_plain_404=True)
        except NotThere:
            return None
        items = data if isinstance(data, list) else [data]
        accounts = [payloads.read_account(item) for item in items]
        for account in accounts:
            if account.email.casefold() == email.casefold():
                return account
        return None

    def confirm_lms(self) -> None:
        """Raises LmsError unless the LMS shows the service worker's account now. Call it after an
        answer that any other server could have given too, such as an empty list.

        Threads that call this method at the same time share a request, if that request was sent
        after each of them had called the method.
        """
        called_at = time.monotonic()
        with self._confirm_lock:
            asked_at, error = self._last_confirmation
            if asked_at <= called_at:  # otherwise another thread has asked since this call began
                asked_at, error = time.monotonic(), None
                try:
                    self._request_accounts([])
                except Refused as problem:
                    error = NotTheLms(
                        f"The server at {self.http.base_url} is not the LMS: it refuses to show "
                        f"the service worker's account: {problem.message}",
                        status=problem.status,
                    )
                except LmsError as problem:
                    error = problem
                self._last_confirmation = asked_at, error
        if error is not None:
            raise error

    def change_account(self, username: str, changes: Mapping[str, str], token: str) -> None:
        """Changes a learner's full name or country. changes: field of the accounts API → value.
        token: the learner's own; the platform refuses a token of staff here, as a recording
        shows."""
        answer = self.http.request(
            "PATCH",
            f"{LmsPath.ACCOUNTS}/{in_path(username)}",
            group=ACCOUNTS,
            token=token,
            json_body=changes,
            headers={"Content-Type": "application/merge-patch+json"},
            again=True,
        )
        account = payloads.read_account(_json_or_refusal(answer))
        if account.username.casefold() != username.casefold():
            raise BadAnswer(
                f"The LMS answered a change of the account {username} with another account."
            )

    def deactivate_account(self, username: str) -> None:
        """Deactivates the account, and checks that the LMS then shows it as inactive. Raises
        AccessRefused if the service worker lacks the permission, which a stock LMS doesn't give."""
        answer = self.http.request(
            "POST",
            _DEACTIVATION_PATH.format(username=in_path(username)),
            group=ACCOUNTS,
            token=self.who.service_token,
            again=True,
        )
        if answer.status in (404, 405):
            self.confirm_lms()
            raise AccessRefused(
                "The LMS has no such endpoint, or hides it.", code="no-endpoint", status=404
            )
        _json_or_refusal(answer)
        account = self.account(username)
        if account is not None and account.is_active:
            raise BadAnswer(f"The LMS still shows {username} as active after deactivating it.")

    # Runs

    def runs_page(self, page: int, keys: Iterable[str] = ()) -> payloads.RunPage:
        """Page ``page``, from 1, of a hundred course runs: those of ``keys``, or all. Raises
        NotThere past the last page."""
        params: dict[str, Any] = {"page": page, "page_size": COURSE_LIST_PAGE_SIZE}
        if self.who.service_worker:
            params["username"] = self.who.service_worker
        if keys:
            params["course_keys"] = list(keys)
        # An LMS without any run has an empty first page.
        data = self._get(LmsPath.COURSES, COURSES, params, has_plain_404=page > 1)
        return payloads.read_page(data)

    def run_modes(self, course_key: str) -> list[payloads.ObservedMode]:
        """The run's enrollment modes; an empty list only after ``confirm_lms`` has succeeded."""
        path = _course_path(LmsPath.COURSE_MODES, course_key)
        modes = payloads.read_modes(self._get(path, MODES, subject=course_key), course_key)
        if not modes:
            self.confirm_lms()
        return modes

    # Enrollments, grades and certificates

    def enroll(
        self, username: str, course_key: str, *, mode: str, is_active: bool, force: bool = False
    ) -> payloads.ObservedEnrollment:
        """Enrolls or unenrolls a learner, or changes the mode; safe to repeat. Returns the
        enrollment that the LMS has afterwards. Raises EnrollmentRefused.

        mode: '' leaves the mode as it is; to unenroll, give '' or the current mode. force: enrolls
        outside of the run's enrollment period too.
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
        return _enrollment_of(username, course_key, _enrollment_json(answer))

    def enrollment(self, username: str, course_key: str) -> payloads.ObservedEnrollment | None:
        """The learner's enrollment in that run; None if the learner was never enrolled. Raises
        EnrollmentRefused if the LMS has no such learner."""
        path = _course_path(f"{LmsPath.ENROLLMENT}/{in_path(username)},{{course_key}}", course_key)
        answer = self.http.request("GET", path, group=ENROLLMENT, token=self.who.service_token)
        if answer.status == 404:
            raise _not_staff()
        if answer.status == 200 and answer.body.strip() in (b"", b"null"):
            # Another server may answer with an empty body too. This server is the LMS if it shows
            # the learner's account, or the service worker's.
            if self.account(username) is None:
                raise EnrollmentRefused(
                    f"The LMS has no account named {username}.", code="unknown-user"
                )
            return None
        return _enrollment_of(username, course_key, _json_or_refusal(answer))

    def enrollments_of(
        self,
        usernames: Iterable[str],
        *,
        on_malformed: Callable[[LmsError], None] | None = None,
    ) -> Iterator[payloads.ListedEnrollment]:
        """All enrollments of these learners, at most a hundred, inactive enrollments included.

        on_malformed: called for each malformed enrollment, which is left out. Without it, a
        malformed enrollment raises its error: an incomplete list must not count as complete.
        """
        path = f"{LmsPath.ENROLLMENTS}?{urlencode({'username': ','.join(usernames)})}"
        for data in self._pages(path, ENROLLMENT):
            yield from payloads.read_enrollments(data, on_malformed)

    def _pages(self, path: str | None, group: str, subject: str = "") -> Iterator[Any]:
        """The JSON of each page of a list, following ``next``. Raises BadAnswer if the list does
        not end."""
        requested_pages: set[str] = set()
        path_of_list = urlsplit(path).path if path else ""
        while path:
            if path in requested_pages or len(requested_pages) >= payloads.MAX_PAGES:
                raise BadAnswer(f"The LMS's list of {group} does not end.")
            requested_pages.add(path)
            data = self._get(path, group, subject=subject)
            yield data
            next_url = data.get("next") if isinstance(data, dict) else None
            path = self._next_page(path_of_list, next_url) if next_url else None

    def _next_page(self, path_of_list: str, next_url: Any) -> str:
        """The path of the next page, with its query. Behind a proxy the LMS may name another scheme
        or host than those of its address, so only the query of ``next_url`` is used. Raises
        BadAnswer if ``next_url`` has another path: an incomplete list must not count as
        complete."""
        try:
            url = urlsplit(next_url if isinstance(next_url, str) else "")
            query = quote(url.query, safe="%&=+/:?@!$'()*,;-._~")
        except ValueError as error:  # includes UnicodeEncodeError, for half of a surrogate pair
            raise BadAnswer("The LMS's address of the next page can't be read.") from error
        if unquote(url.path) != unquote(path_of_list) or not query:
            raise BadAnswer(f"The LMS's list at {path_of_list} continues at another path.")
        return f"{path_of_list}?{query}"

    def grade(self, username: str, course_key: str) -> payloads.ObservedGrade | None:
        """The learner's grade in that run; None if the LMS has none."""
        path = _course_path(LmsPath.GRADES, course_key)
        data = self._get(path, GRADES, {"username": username}, subject=course_key)
        return payloads.read_grade(data, username, course_key)

    def grades_of_run(self, course_key: str) -> Iterator[tuple[str, payloads.ObservedGrade]]:
        """(username, grade) of each active learner of the run."""
        path = f"{_course_path(LmsPath.GRADES, course_key)}?page_size=100"
        for data in self._pages(path, GRADES, subject=course_key):
            yield from payloads.read_grades(data)

    def certificates(self, username: str) -> list[payloads.ObservedCertificate]:
        """The learner's certificates, of all runs."""
        path = LmsPath.CERTIFICATES.format(username=in_path(username))
        data = self._get(path, CERTIFICATES, subject=username)
        return payloads.read_certificates(data, username)

    # Tokens

    def exchange_code(self, code: str, redirect_uri: str) -> payloads.TokenPair:
        """The learner's tokens for an authorization code. Raises InvalidGrant if the code was used
        or has expired, Misconfigured if the LMS refuses the OAuth client."""
        return self._tokens(
            {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        )

    def refresh(self, refresh_token: str) -> payloads.TokenPair:
        """New tokens for a refresh token. Raises InvalidGrant if the refresh token was used or
        revoked: a new authorization is needed. Raises Misconfigured if the LMS refuses the OAuth
        client."""
        return self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def _tokens(self, form: dict[str, str]) -> payloads.TokenPair:
        """The tokens for this form, to which the OAuth client's credentials are added."""
        now = datetime.now(UTC)
        form |= {"client_id": self.who.client_id, "client_secret": self.who.client_secret}
        answer = self.http.request("POST", LmsPath.ACCESS_TOKEN, group=TOKENS, form=form)
        body = answer.json_or_none()
        error = body.get("error") if isinstance(body, dict) else None
        if error == "invalid_grant":
            raise InvalidGrant(
                "The LMS refuses this code or refresh token: it was used, revoked or has expired."
            )
        if answer.status in (400, 401, 403):
            raise Misconfigured(
                f"The LMS refuses the application's OAuth client: {error or answer.status}. "
                "Compare OPENEDX_API_CLIENT_ID and OPENEDX_API_CLIENT_SECRET with its record.",
                code=str(error or "client-refused"),
                status=answer.status,
            )
        return payloads.read_tokens(_json_or_refusal(answer), now)

    def _get(
        self,
        path: str,
        group: str,
        params: Mapping[str, Any] | None = None,
        *,
        subject: str = "",
        has_plain_404: bool = False,
    ) -> Any:
        """The JSON of a GET request by the service worker. has_plain_404: whether this endpoint
        answers 404 without an error code for objects that don't exist. Raises NotTheLms if any
        other endpoint answers so, because then the endpoint does not exist."""
        answer = self.http.request(
            "GET",
            path,
            group=group,
            params=params,
            token=self.who.service_token,
            subject=subject,
        )
        try:
            return _json_or_refusal(answer)
        except NotThere as error:
            if has_plain_404 or error.code != NotThere.default_code:
                raise
            raise NotTheLms(
                f"The server at {self.http.base_url} has no {group} API, so it is not the LMS. "
                "Check OPENEDX_API_BASE_URL and the proxy.",
                status=404,
            ) from error


def _enrollment_of(username: str, course_key: str, data: Any) -> payloads.ObservedEnrollment:
    """The enrollment in an answer. Raises BadAnswer if it is another learner's or in another
    run."""
    enrollment = payloads.read_enrollment(data)
    run = data.get("course_details")
    payloads.require_same("learner", username, data.get("user"))
    payloads.require_same(
        "course run", course_key, run.get("course_id") if isinstance(run, dict) else None
    )
    return enrollment


def _json_or_refusal(answer: Answer) -> Any:
    """The JSON of a successful answer, None for an empty answer. Raises ``refusal(answer)`` for an
    answer without success."""
    if answer.status < 300:
        return answer.json() if answer.body else None
    raise refusal(answer)


def refusal(answer: Answer) -> LmsError:
    """The error for an answer with a 3xx or 4xx status.

    Only an answer in the LMS's own form counts as a refusal of one learner or run; any other answer
    gives NotTheLms.
    """
    return _refusal(answer).with_request_id(answer.request_id)


def _refusal(answer: Answer) -> LmsError:
    """As ``refusal``, without the id of the request."""
    code, message = code_and_message(answer)
    if answer.status == 403 and not isinstance(answer.json_or_none(), dict):
        return not_the_lms_error(answer)  # Open edX's APIs answer JSON; a proxy answers a page
    if answer.status in (401, 403):
        return AccessRefused(
            f"The LMS refuses access ({answer.status}): {message}",
            code=code or f"http-{answer.status}",
            status=answer.status,
        )
    if not _is_in_lms_form(answer):
        return not_the_lms_error(answer)
    error_class = NotThere if answer.status == 404 else Refused
    return error_class(f"The LMS refuses: {message}", code=code, status=answer.status)


def _is_in_lms_form(answer: Answer) -> bool:
    """Whether Django REST framework can have written this refusal: its status is one of those
    below, and its body is a JSON object or list, or is empty and there is a header ``Allow``."""
    if answer.status not in (400, 404, 406, 409, 422):
        return False
    if not answer.body:
        return "allow" in answer.headers
    return isinstance(answer.json_or_none(), dict | list)


def not_the_lms_error(answer: Answer) -> NotTheLms:
    """The error for an answer that Open edX would not give."""
    header = str(answer.headers.get("content-type", ""))
    content_type = header.split(";")[0][:40] or "no content type"
    return NotTheLms(
        f"The answer ({answer.status}, {content_type}) is not the LMS's. It may come from a proxy "
        "without its backend, a sign-in page or another application. Check OPENEDX_API_BASE_URL "
        "and the proxy.",
        status=answer.status,
    )


def api_error_of(lms: LmsClient, answer: Answer) -> LmsError:
    """The error for an answer to a learner's registration or sign-in that Open edX's views would
    not give.

    Django answers 400 with a page if it can't save the session, for example because the database is
    busy. So if the server shows the service worker's account now, its 400 concerns this request
    only. If the server doesn't show the account, raises the error of ``LmsClient.confirm_lms``.
    """
    if answer.status != 400:
        return not_the_lms_error(answer)
    lms.confirm_lms()
    return BadAnswer(
        "The LMS answered 400 without a reason. It may have been unable to save the session, for "
        "example because its database was busy; the reason is in the LMS's log.",
        code="bad-request",
        status=400,
    ).with_request_id(answer.request_id)


def code_and_message(answer: Answer) -> tuple[str, str]:
    """The LMS's error code and message in an answer, at most 64 and 400 characters. The code is ''
    if there is none; the message then names the status."""
    body = answer.json_or_none()
    code: Any = ""
    if isinstance(body, dict):
        # In the platform's answer to a wrong token, code and message are one level deeper.
        inner_objects = [body[key] for key in _NESTING_KEYS if isinstance(body.get(key), dict)]
        values = []
        for data in (*inner_objects, body):
            values += [data.get(key) for key in _CODE_KEYS]
        codes = [value for value in values if _is_code(value)]
        code = codes[0] if codes else ""
    message = sentence_of(body) or str(code) or f"status {answer.status} without a reason"
    return str(code)[:64], message[:400]


_NESTING_KEYS = ("developer_message", "detail")
_CODE_KEYS = ("error_code", "error")


def _is_code(value: Any) -> bool:
    return isinstance(value, str | int) and bool(value)


def _enrollment_json(answer: Answer) -> Any:
    """The JSON of an answer to ``enroll``. Raises EnrollmentRefused for 400 and 406."""
    if answer.status in (400, 406):
        if not _is_in_lms_form(answer):
            raise not_the_lms_error(answer)
        _, message = code_and_message(answer)
        code = _enrollment_code(message)
        refused = EnrollmentRefused(message, code=code, status=answer.status)
        raise refused.with_request_id(answer.request_id)
    if answer.status == 404:
        # The platform hides from a caller that isn't staff whether the learner exists.
        raise _not_staff()
    return _json_or_refusal(answer)


def _not_staff() -> AccessRefused:
    """The error for a 404 of the enrollment API."""
    return AccessRefused(
        "The LMS does not let the service worker enroll learners. Make its account staff in the "
        "LMS.",
        code="service-worker-not-staff",
        status=404,
    )


def _enrollment_code(message: str) -> str:
    """Usher's code for a message of the enrollment API, which has no codes of its own."""
    # The longer words come first: "mode mismatch" contains "mode".
    for words, code in (
        ("mode mismatch", "mode-mismatch"),
        ("no course", "unknown-run"),
        ("does not exist", "unknown-user"),
        ("mode", "mode-not-offered"),
    ):
        if words in message.lower():
            return code
    return "enrollment-refused"


def _course_path(path: str, course_key: str) -> str:
    """The LMS's path about a run. Raises NotThere for a key to which no path of the LMS leads: the
    LMS answers such a path with a page, as another server would."""
    if not _COURSE_KEY.fullmatch(course_key):
        error = NotThere(f"{course_key!r} is not the key of a course run")
        error.was_sent = False
        raise error
    return path.format(course_key=in_path(course_key))
