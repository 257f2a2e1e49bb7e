"""The errors of the client, each with its failure class (``usher.contract.failures``).

LmsError
├── Unreachable      transient   no answer: unknown host, no connection
│   └── TimedOut     transient   no complete answer in time
├── CircuitOpen      transient   not sent, after many failures
├── NotConfigured    systemic    not sent: no setting names an LMS
├── BadAnswer        transient   incomplete, too large or of another shape
├── ServerFailed     transient   5xx
├── Throttled        throttled   429, or a rate limit that answers 403
├── AccessRefused    systemic    the service worker's token is refused
├── NotTheLms        systemic    another server answers at the address
├── Misconfigured    systemic    provider record or OAuth client is wrong
└── Refused          rejected    4xx: the LMS refuses this learner or run
    ├── NotThere           rejected    404
    ├── RegistrationRefused rejected   by the registration API, with fields and suggestions
    ├── EnrollmentRefused  rejected    by the enrollment API, with its message
    ├── InvalidGrant       rejected    the code or refresh token was used, revoked or has expired
    └── SignInStopped      rejected    the LMS did not sign the learner in
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from usher.contract.failures import FailureClass, storable
from usher.contract.folders import how_to_use_lms_of_dev

_NOT_CONNECTED = "no-connection"
#: OpenSSL's reason of an error for an answer that is not TLS.
_ANSWER_WITHOUT_TLS = "WRONG_VERSION_NUMBER"


class LmsError(Exception):
    """Any error of the client.

    message: for people. code: the LMS's own error code, or the class's ``default_code``. status:
    HTTP status, None without an answer. retry_after: seconds to wait, None if not known.
    request_id: ``X-Request-ID`` of the request, '' if none was sent. was_sent: False if no request
    was sent.
    """

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
        # Databases and logs can't store every character that an LMS's answer may contain.
        message, code = storable(message), storable(code)
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.status = status
        self.retry_after = retry_after

    def with_request_id(self, request_id: str) -> Self:
        """Sets the id of the request that failed, and returns this error."""
        self.request_id = request_id
        return self


class Unreachable(LmsError):
    """No answer: the host name is unknown, or the connection failed or was reset."""

    default_code = "unreachable"

    @classmethod
    def not_connected(cls, base_url: str, error: Exception) -> Self:
        """The error if no connection was made, so that nothing was sent."""
        if getattr(error, "reason", "") == _ANSWER_WITHOUT_TLS:
            return cls(
                f"A server answers at {base_url}, but without TLS: does its address begin with "
                "http:// instead?",
                code=_NOT_CONNECTED,
            )
        return cls(f"Nothing answers at {base_url} ({error}).", code=_NOT_CONNECTED)

    @classmethod
    def broken_off(cls, path: str, reason: str) -> Self:
        """The error for a connection that ended before the answer did."""
        return cls(f"The LMS broke off the connection at {path}: {reason}.", code="broken-off")

    @property
    def is_unconnected(self) -> bool:
        """Whether no connection was made, so that nothing was sent."""
        return self.code == _NOT_CONNECTED


class TimedOut(Unreachable):
    """No complete answer in time. The LMS may have carried the request out."""

    default_code = "timed-out"

    @classmethod
    def after(cls, path: str, seconds: float) -> Self:
        """The error if the request for ``path`` has no answer within this many seconds."""
        return cls(f"The LMS did not answer {path} within {seconds:.3g} s.")


class CircuitOpen(LmsError):
    """Not sent: the circuit breaker is open after many failures. ``retry_after`` is always set: the
    seconds until the next request is allowed."""

    default_code = "circuit-open"
    was_sent = False


class NotConfigured(LmsError):
    """Not sent: the settings name no LMS."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "not-configured"
    was_sent = False

    def __init__(self) -> None:
        advice = how_to_use_lms_of_dev() or (
            "Run `usher dev` for an LMS on this machine, or `usher connect` for a real one."
        )
        super().__init__(
            f"No LMS is configured: OPENEDX_API_BASE_URL is not set. {advice}",
            retry_after=10.0,  # checking the settings again needs no request
        )


class BadAnswer(LmsError):
    """The answer is incomplete, too large, or of a shape that Open edX doesn't have."""

    default_code = "bad-answer"


class ServerFailed(LmsError):
    """The LMS answered 5xx."""

    default_code = "server-error"


class Throttled(LmsError):
    """The LMS limits the rate of requests. ``retry_after`` is always set: to the seconds in the
    answer, or to a guess."""

    failure_class = FailureClass.THROTTLED
    default_code = "throttled"


class AccessRefused(LmsError):
    """The LMS refuses the token, or the account lacks a permission."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "access-refused"


class NotTheLms(LmsError):
    """Open edX does not give such an answer, or the answer lacks an account or runs that are known
    to exist. It comes from a proxy without its backend, a sign-in page, another application, or an
    LMS with another database. It proves nothing about the object of the request, and other requests
    would fail in the same way."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "not-the-lms"


class Misconfigured(LmsError):
    """A setting, the provider record or an OAuth client is wrong: every learner would fail."""

    failure_class = FailureClass.SYSTEMIC
    default_code = "misconfigured"


class Refused(LmsError):
    """The LMS refuses this request, about one learner or run (4xx)."""

    failure_class = FailureClass.REJECTED
    default_code = "refused"


class NotThere(Refused):
    """The LMS has no such object (404)."""

    default_code = "not-found"


class RegistrationRefused(Refused):
    """The registration API refuses the account. fields: name of the field → the LMS's message.
    suggestions: usernames that are free."""

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
    """The enrollment API refuses the enrollment."""

    default_code = "enrollment-refused"


class InvalidGrant(Refused):
    """The code or refresh token was used, revoked or has expired."""

    default_code = "invalid_grant"


class SignInStopped(Refused):
    """The LMS did not sign the learner in: the account isn't linked to this application, is
    disabled, or belongs to somebody else."""

    default_code = "sign-in-stopped"
