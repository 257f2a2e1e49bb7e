"""What can go wrong between the application and the LMS.

LmsError
├── Unreachable            transient   no answer: name, connection, reset
│   └── TimedOut           transient   no whole answer in time
├── HeldBack               transient   not sent: the circuit is open after many failures
├── BadAnswer              transient   an answer that is half, too large or not what was asked
├── ServerFailed           transient   5xx
├── Throttled              throttled   429, or a limit that answers 403
├── AccessRefused          systemic    the service worker's token is refused
├── NotTheLms              systemic    something else answers at the LMS's address
├── Misconfigured          systemic    provider record, OAuth client: every learner would fail
└── Refused                rejected    4xx: the LMS refuses this one
    ├── NotThere           rejected    404
    ├── RegistrationRefused rejected   the registration API's fields and suggestions
    ├── EnrollmentRefused  rejected    the enrollment API's message
    ├── InvalidGrant       rejected    code or refresh token no longer good
    └── SignInStopped      rejected    the sign-in on a learner's behalf did not end signed in
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from usher.contract.failures import FailureClass, storable


class LmsError(Exception):
    """``code`` is the LMS's own where it has one; ``retry_after``: seconds, None when not told.
    ``request_id``: of the request that was refused, '' where there was none. ``was_sent``: whether
    the LMS was asked at all."""

    failure_class = FailureClass.TRANSIENT
    default_code = "lms-error"
    request_id = ""
    was_sent = True

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        # The LMS's words are kept in a database and in logs, which not every character can be.
        message, code = storable(message), storable(code)
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status
        self.retry_after = retry_after

    def of_request(self, request_id: str) -> Self:
        """This error, as the answer to that request."""
        self.request_id = request_id
        return self


class Unreachable(LmsError):
    default_code = "unreachable"


class TimedOut(Unreachable):
    default_code = "timed-out"


class HeldBack(LmsError):
    """``retry_after`` is always there: when the circuit is tried again."""

    default_code = "circuit-open"
    was_sent = False


class BadAnswer(LmsError):
    default_code = "bad-answer"


class ServerFailed(LmsError):
    default_code = "server-error"


class Throttled(LmsError):
    """``retry_after`` is always there, from the answer or a guess."""

    failure_class = FailureClass.THROTTLED
    default_code = "throttled"


class AccessRefused(LmsError):
    failure_class = FailureClass.SYSTEMIC
    default_code = "access-refused"


class NotTheLms(LmsError):
    """The answer isn't one that Open edX gives, or a known account isn't found: a proxy without its
    backend, a sign-in page, another application, an LMS with another database. Nothing follows
    from such an answer, and every other row would meet the same."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "not-the-lms"


class Misconfigured(LmsError):
    failure_class = FailureClass.SYSTEMIC
    default_code = "misconfigured"


class Refused(LmsError):
    failure_class = FailureClass.REJECTED
    default_code = "refused"


class NotThere(Refused):
    default_code = "not-found"


class RegistrationRefused(Refused):
    """fields: name of the field → the LMS's message. suggestions: names that were free."""

    default_code = "registration-refused"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        fields: Mapping[str, str],
        suggestions: list[str],
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.fields = dict(fields)
        self.suggestions = suggestions


class EnrollmentRefused(Refused):
    default_code = "enrollment-refused"


class InvalidGrant(Refused):
    default_code = "invalid_grant"


class SignInStopped(Refused):
    default_code = "sign-in-stopped"
