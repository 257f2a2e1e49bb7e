"""The four classes of failures, which decide what the worker does next with a row."""

from enum import StrEnum


def storable(text: str) -> str:
    """``text`` with a question mark in place of NUL characters and halves of surrogate pairs."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")


def is_storable(text: str) -> bool:
    """Whether a database can store the text: it has no NUL and no half of a surrogate pair."""
    return storable(text) == text


#: The error code of a course run whose key is malformed, and of its enrollments.
MALFORMED = "malformed-course-key"


class FailureClass(StrEnum):
    """What must happen before another attempt can succeed.

    transient: retry with backoff. throttled: retry when the LMS allows it. rejected: the LMS
    refuses this row; retry only after the cause changed or when a person asks for it. systemic:
    the connection itself is wrong (token, provider record), so every row would fail the same way;
    stop this kind of work, and probe until it succeeds.
    """

    TRANSIENT = "transient"
    THROTTLED = "throttled"
    REJECTED = "rejected"
    SYSTEMIC = "systemic"


class RegistrationError(StrEnum):
    """``error_code`` of the registration API, and of the batch API for the same refusals."""

    DUPLICATE_EMAIL = "duplicate-email"
    DUPLICATE_USERNAME = "duplicate-username"
    DUPLICATE_EMAIL_USERNAME = "duplicate-email-username"
    VALIDATION = "validation-error"
    INVALID_COUNTRY = "invalid-country"
    INVALID_ACCESS_TOKEN = "tpa-invalid-access-token"  # noqa: S105 - a code
    RATE_LIMITED = "forbidden-request"
    #: Batch API only: the account is staff or a superuser in the LMS, so Usher does not change it.
    PROTECTED_ACCOUNT = "protected-account"
    #: Batch API only: the learner signs in to an account with another username.
    LINKED_ELSEWHERE = "linked-elsewhere"
