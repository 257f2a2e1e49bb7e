"""Creates a learner's LMS account with the registration API, and explains refusals."""

from __future__ import annotations

from typing import Any

from usher.client import payloads
from usher.client.client import (
    REGISTRATION,
    LmsClient,
    api_error_of,
    code_and_message,
    not_the_lms_error,
)
from usher.client.errors import (
    AccessRefused,
    LmsError,
    Misconfigured,
    RegistrationRefused,
    ServerFailed,
)
from usher.client.http import Answer
from usher.client.payloads import Registered, reading
from usher.contract.failures import RegistrationError
from usher.contract.oauth import social_login_path
from usher.contract.paths import LmsPath
from usher.contract.refusals import sentence_of

#: Seconds to pause after the registration limit was reached. The limit applies to seven days, and
#: the platform doesn't say when they end.
_LIMIT_PAUSE_SECONDS = 3600.0
#: The provider record is checked at most once in this many seconds.
_SECONDS_BETWEEN_CHECKS = 30.0


def register(
    lms: LmsClient, *, username: str, email: str, name: str, country: str, access_token: str
) -> Registered:
    """Creates the account ``username``, linked to the learner's account in this application.

    country: two letters, or ''. access_token: a token of the learner in this application; the LMS
    calls ``api/users/me`` with it before it answers.
    Raises RegistrationRefused, with the LMS's fields and suggestions. Raises Throttled if the limit
    of new accounts for an IP address is reached, AccessRefused if registration is closed, and
    Misconfigured if the provider record is wrong.
    """
    form = {
        "username": username,
        "email": email,
        "name": name,
        "provider": lms.who.backend,
        "access_token": access_token,
        "honor_code": "true",
        "terms_of_service": "true",
    }
    if country:
        form["country"] = country
    headers = {}
    if lms.who.registration_token:
        headers["X-Access-Token"] = lms.who.registration_token
    try:
        answer = lms.http.request(
            "POST",
            LmsPath.REGISTRATION,
            group=REGISTRATION,
            form=form,
            headers=headers,
            again=False,
        )
    except ServerFailed as error:
        raise_if_misconfigured(lms)
        raise error
    return _read_registration(lms, answer)


def _read_registration(lms: LmsClient, answer: Answer) -> Registered:
    """The new account in an answer. Raises the errors of ``register`` for any other answer."""
    body = answer.json_or_none()
    code, message = code_and_message(answer)
    if answer.status == 200:
        data = answer.json()
        return reading(
            "a registration", lambda: _registered_user(data["authenticated_user"], answer)
        )
    if code == RegistrationError.RATE_LIMITED:
        # Registrations pause now; the error is raised below.
        error = lms.http.pause_group(REGISTRATION, _LIMIT_PAUSE_SECONDS)
        error.code = code
        error.message = (
            "The LMS allows no more new accounts from this IP address for now. Install usher.lms "
            "in the LMS, or raise its setting REGISTRATION_RATELIMIT."
        )
        raise error
    if code == RegistrationError.INVALID_ACCESS_TOKEN:
        raise Misconfigured(
            "The LMS could not read the learner from this application's api/users/me. Check "
            "API_ROOT in its provider record, and that the LMS can reach the application.",
            code=code,
            status=answer.status,
        )
    if answer.status in (400, 409) and isinstance(body, dict):
        raise _refusal_of(body, code, answer.status).with_request_id(answer.request_id)
    if answer.status == 401:  # this endpoint needs no token
        raise AccessRefused(
            "The LMS, or a proxy in front of it, asks for a password or token to register a "
            f"learner (401): {message}. Check what answers at {LmsPath.REGISTRATION}.",
            code="http-401",
            status=401,
        )
    if answer.status == 403:
        raise AccessRefused(
            f"The LMS does not let the application register learners: {message}. "
            "Set ALLOW_PUBLIC_ACCOUNT_CREATION to true in the LMS.",
            code=code or "registration-closed",
            status=answer.status,
        )
    raise api_error_of(lms, answer)


def _registered_user(user: dict[str, Any], answer: Answer) -> Registered:
    return Registered(
        username=payloads.identifier(user["username"], "a username"),
        lms_user_id=payloads.user_id(user.get("user_id")),
        cookies=answer.cookies(),
    )


def _refusal_of(body: dict[str, Any], code: str, status: int) -> RegistrationRefused:
    """The error for a refusal. body: name of a field → a list of objects with ``user_message``, in
    addition to ``username_suggestions``."""
    fields = {}
    for field, entries in body.items():
        if isinstance(entries, list) and entries and isinstance(entries[0], dict):
            fields[field] = sentence_of(entries[0].get("user_message", ""))
    usernames = body.get("username_suggestions")
    suggestions = [str(name) for name in usernames] if isinstance(usernames, list) else []
    field_errors = "; ".join(f"{field}: {text}" for field, text in fields.items())
    return RegistrationRefused(
        field_errors or sentence_of(body) or f"status {status}",
        code=code or "registration-refused",
        status=status,
        fields=fields,
        suggestions=suggestions,
    )


def raise_if_misconfigured(lms: LmsClient) -> None:
    """Raises Misconfigured if the start of sign-in shows that the provider record is wrong, and
    NotTheLms as ``check_start``. Call it after a 5xx answer, which may have this cause or be
    temporary.

    The result is the same for all learners, so within 30 seconds only one caller checks.
    """
    if not lms.http.state.claim("provider-check", _SECONDS_BETWEEN_CHECKS):
        return
    for _ in range(2):  # twice, because a single 5xx answer may be temporary
        try:
            answer = lms.http.request("GET", social_login_path(lms.who.backend), again=False)
        except ServerFailed as error:
            failure = error
            continue
        except LmsError:
            return
        check_start(lms, answer)
        return
    if failure.status == 500 and _works_apart_from_sign_in(lms):
        raise Misconfigured(
            f"The LMS can't start sign-in with the backend {lms.who.backend}: its provider record "
            "is disabled, missing, or belongs to another site. Run `usher doctor`.",
            code="provider-disabled",
            status=500,
        ) from failure


def _works_apart_from_sign_in(lms: LmsClient) -> bool:
    """Whether the LMS answers other requests than those of sign-in. While the LMS's database is
    down, each page answers 500."""
    try:
        lms.confirm_lms()
    except LmsError:
        return False
    return True


def check_start(lms: LmsClient, answer: Answer) -> str:
    """The address to which the start of sign-in redirects. Raises Misconfigured if the answer shows
    a wrong provider record, and NotTheLms for any other unexpected answer: the request names no
    learner, so the answer must not count as a refusal of one.
    """
    if answer.status == 404:
        raise Misconfigured(
            f"The LMS has no sign-in backend named {lms.who.backend}.", code="unknown-backend"
        )
    location = answer.location
    if answer.status != 302 or not location:
        raise not_the_lms_error(answer)
    if location.startswith("None"):
        raise Misconfigured(
            "The LMS's provider record has no AUTHORIZATION_URL in its field Other settings.",
            code="provider-without-addresses",
        )
    return location
