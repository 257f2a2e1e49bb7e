"""Creating a learner's account by the registration API, and what stands in its way."""

from __future__ import annotations

from typing import Any

from usher.client import payloads
from usher.client.client import REGISTRATION, LmsClient, not_the_lms, said
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

#: Seconds. The platform's limit is counted over seven days and doesn't say when it ends.
_LIMIT_PAUSE = 3600.0
#: Seconds for which the answer about the provider record is believed.
_PROVIDER_CHECKED = 30.0


def register(
    lms: LmsClient, *, username: str, email: str, name: str, country: str, access_token: str
) -> Registered:
    """Makes the account ``username``, linked to this application's sign-in.

    access_token: the learner's own, of this application; the LMS calls ``api/users/me`` with it
    before it answers. Raises RegistrationRefused with the LMS's fields and suggestions; Throttled
    when the limit of accounts for an address is reached; Misconfigured when it is the provider
    record, not the learner, that is wrong.
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
    return _read(lms, answer)


def _read(lms: LmsClient, answer: Answer) -> Registered:
    body = answer.json_or_none()
    code, message = said(answer)
    if answer.status == 200:
        data = answer.json()
        return reading("a registration", lambda: _registered(data["authenticated_user"], answer))
    if code == RegistrationError.RATE_LIMITED:
        error = lms.http.throttled(REGISTRATION, _LIMIT_PAUSE)
        error.code = code
        error.message = (
            "The LMS allows no more new accounts from this address for now. "
            "Install usher.lms there, or raise REGISTRATION_RATELIMIT."
        )
        raise error
    if code == RegistrationError.INVALID_ACCESS_TOKEN:
        raise Misconfigured(
            "The LMS could not confirm the learner at this application's api/users/me: "
            "its provider record has a wrong API_ROOT, or the application was not reachable.",
            code=code,
            status=answer.status,
        )
    if answer.status in (400, 409) and isinstance(body, dict):
        raise _refused(body, code, answer.status).of_request(answer.request_id)
    if answer.status in (401, 403):
        raise AccessRefused(
            f"The LMS does not let the application register learners: {message}. "
            "ALLOW_PUBLIC_ACCOUNT_CREATION must be on.",
            code=code or "registration-closed",
            status=answer.status,
        )
    raise not_the_lms(answer)


def _registered(user: dict[str, Any], answer: Answer) -> Registered:
    return Registered(
        payloads.name(user["username"], 255, "a username"),
        payloads.user_id(user.get("user_id")),
        answer.cookies(),
    )


def _refused(body: dict[str, Any], code: str, status: int) -> RegistrationRefused:
    fields = {
        field: str(entries[0].get("user_message", ""))
        for field, entries in body.items()
        if isinstance(entries, list) and entries and isinstance(entries[0], dict)
    }
    found = body.get("username_suggestions")
    suggestions = [str(name) for name in found] if isinstance(found, list) else []
    words = "; ".join(f"{field}: {text}" for field, text in fields.items())
    return RegistrationRefused(
        words or f"status {status}",
        code=code or "registration-refused",
        status=status,
        fields=fields,
        suggestions=suggestions,
    )


def raise_if_misconfigured(lms: LmsClient) -> None:
    """Looks at the start of sign-in, which tells a wrong provider record from a passing failure.

    Asked by one caller at a time: what it finds holds for all learners.
    """
    if not lms.http.state.claim("provider-check", _PROVIDER_CHECKED):
        return
    for _ in range(2):
        try:
            answer = lms.http.request("GET", social_login_path(lms.who.backend), again=False)
        except ServerFailed as error:
            failed = error
            continue
        except LmsError:
            return
        check_start(lms, answer)
        return
    if failed.status == 500:
        raise Misconfigured(
            f"The LMS can't start sign-in by {lms.who.backend}: its provider record is disabled, "
            "missing, or on another site. Run usher doctor.",
            code="provider-disabled",
            status=500,
        ) from failed


def check_start(lms: LmsClient, answer: Answer) -> str:
    """Where the start of sign-in leads; raises when it shows a wrong provider record.

    No learner is named there, so whatever is answered instead is about none.
    """
    if answer.status == 404:
        raise Misconfigured(
            f"The LMS has no sign-in backend named {lms.who.backend}.", code="unknown-backend"
        )
    location = answer.location
    if answer.status != 302 or not location:
        raise not_the_lms(answer)
    if location.startswith("None"):
        raise Misconfigured(
            "The LMS's provider record has no AUTHORIZATION_URL in its other settings.",
            code="provider-without-addresses",
        )
    return location
