"""Reads untrusted request bodies within limits, and checks that values can be stored."""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.http.request import UnreadablePostError

from usher.contract import failures

#: The longest text that any column here holds.
MAX_LENGTH = 255


def body_of(request: HttpRequest, limit: int) -> bytes | None:
    """The body; None if it is longer than ``limit`` bytes, whatever its Content-Length says, or
    can't be read."""
    try:
        declared = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return None
    if declared > limit:
        return None
    try:
        body = request.read(limit + 1)
    except (RequestDataTooBig, UnreadablePostError, OSError):
        return None
    return body if len(body) <= limit else None


def is_storable(text: str) -> bool:
    """Whether a database can store this text: it has no NUL, no half of a surrogate pair, and is
    not too long."""
    return len(text) <= MAX_LENGTH and failures.is_storable(text)
