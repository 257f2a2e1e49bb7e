"""Errors of the LMS plugin.

UsherLmsError
├── AccountRefused       an account can't be created; ``code`` is a contract RegistrationError
├── DatabaseBusy         other transactions locked the same rows, or the database is restarting
├── EnrollmentRefused    an enrollment can't be changed; ``code`` is one of EnrollmentError
└── ProvisioningError    this LMS can't be provisioned as usher_provision's description asks
"""

from collections.abc import Mapping
from enum import StrEnum

from usher.contract.failures import RegistrationError


class UsherLmsError(Exception):
    """Base of the plugin's errors. The message says what happened, to what, and what to do."""


class AccountRefused(UsherLmsError):
    """fields: messages by field name; suggestions: free usernames, when the username is taken."""

    def __init__(
        self,
        code: RegistrationError,
        fields: Mapping[str, str],
        suggestions: list[str] | None = None,
    ) -> None:
        self.code = code
        self.fields = dict(fields)
        self.suggestions = suggestions or []
        super().__init__(" ".join(self.fields.values()))


class DatabaseBusy(UsherLmsError):
    """Other transactions changed or locked the same rows, or the connection to the database was
    lost; the same call may succeed later."""


class EnrollmentError(StrEnum):
    """Why an enrollment was refused; the public enrollment API gives most of these reasons in
    words."""

    UNKNOWN_USER = "unknown-user"
    LINKED_ELSEWHERE = RegistrationError.LINKED_ELSEWHERE.value
    UNKNOWN_RUN = "unknown-run"
    MODE_UNAVAILABLE = "mode-unavailable"
    MODE_MISMATCH = "mode-mismatch"
    CLOSED = "enrollment-closed"
    FULL = "course-full"
    NOT_ALLOWED = "not-allowed"
    NOT_ENROLLED = "not-enrolled"
    INVALID = "invalid"


class EnrollmentRefused(UsherLmsError):
    """message: as the public API words it."""

    def __init__(self, code: EnrollmentError, message: str) -> None:
        self.code = code
        super().__init__(message)


class ProvisioningError(UsherLmsError):
    """Nothing was changed: provisioning is one transaction."""
