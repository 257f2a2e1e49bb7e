"""Prepares values for logs: one line each, of bounded length, without secrets."""

import re
from collections.abc import Mapping
from typing import Any

#: Control characters, line and paragraph separators, and marks that change the text's direction.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SECRET_NAME = re.compile(
    r"secret|token|password|authorization|cookie|session_?(key|id)|code_verifier|^code$|api_key",
    re.I,
)
REDACTED = "[redacted]"
MAX_LENGTH = 255
#: The length of an event's name, and of a name in an event's ``detail``.
NAME_LENGTH = 60


def one_line(value: object, limit: int = MAX_LENGTH) -> str:
    """``value`` as text without characters that could start a new line of a log or hide text."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", str(value))[:limit]


def is_secret_name(name: str) -> bool:
    """Whether a field of that name may hold a secret."""
    return bool(_SECRET_NAME.search(name))


def safe(detail: Mapping[str, Any]) -> dict[str, Any]:
    """``detail`` with secrets redacted and each text on one line; numbers and flags unchanged."""
    return {one_line(name, NAME_LENGTH): _safe_value(name, value) for name, value in detail.items()}


def _safe_value(name: str, value: Any) -> Any:
    if is_secret_name(name):
        return REDACTED
    if isinstance(value, Mapping):
        return safe(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return one_line(value)
