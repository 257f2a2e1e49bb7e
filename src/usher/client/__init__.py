"""The Open edX client: typed answers, one tree of errors. No Django; usable alone."""

from usher.client.addresses import BadAddress
from usher.client.errors import (
    AccessRefused,
    BadAnswer,
    CircuitOpen,
    EnrollmentRefused,
    InvalidGrant,
    LmsError,
    Misconfigured,
    NotTheLms,
    NotThere,
    Refused,
    ServerFailed,
    Throttled,
    TimedOut,
    Unreachable,
)
from usher.client.openedx import OpenEdx

__all__ = [
    "AccessRefused",
    "BadAddress",
    "BadAnswer",
    "CircuitOpen",
    "EnrollmentRefused",
    "InvalidGrant",
    "LmsError",
    "Misconfigured",
    "NotTheLms",
    "NotThere",
    "OpenEdx",
    "Refused",
    "ServerFailed",
    "Throttled",
    "TimedOut",
    "Unreachable",
]
