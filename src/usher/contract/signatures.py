"""Signatures of the messages that the LMS sends to the application (webhooks).

``Usher-Signature: v1=<hex>`` is HMAC-SHA256 over ``<timestamp>.<event id>.<body>``. The timestamp
(Unix seconds) limits for how long a message can be replayed; the event id lets the receiver drop a
message that it has already received. Neither contains a dot, so two different messages never give
the same signed text.
"""

import hashlib
import hmac
import re

HEADER_EVENT_ID = "Usher-Event-Id"
HEADER_TIMESTAMP = "Usher-Timestamp"
HEADER_SIGNATURE = "Usher-Signature"
#: The most seconds by which a message's timestamp may differ from the receiver's time.
TOLERANCE_SECONDS = 300


_EVENT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_TIMESTAMP = re.compile(r"[0-9]{1,11}")


def is_event_id(text: str) -> bool:
    return bool(_EVENT_ID.fullmatch(text))


def read_timestamp(text: str) -> int | None:
    """The header's Unix seconds; None for anything but plain digits."""
    return int(text) if _TIMESTAMP.fullmatch(text) else None


def sign(secret: str, *, timestamp: int, event_id: str, body: bytes) -> str:
    """The value of ``Usher-Signature`` for this message. timestamp: Unix seconds."""
    message = b".".join((str(timestamp).encode(), event_id.encode(), body))
    return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def verify(
    secret: str, signature: str, *, timestamp: int, event_id: str, body: bytes, now: float
) -> bool:
    """Whether the signature is valid and the timestamp within ``TOLERANCE_SECONDS`` of ``now``
    (Unix seconds). False without a secret."""
    if not secret or not is_event_id(event_id) or timestamp < 0:
        return False
    expected = sign(secret, timestamp=timestamp, event_id=event_id, body=body)
    is_fresh = abs(now - timestamp) <= TOLERANCE_SECONDS
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")) and is_fresh
