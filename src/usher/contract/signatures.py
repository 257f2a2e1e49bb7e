"""Signatures of the messages that the LMS sends to the application (webhooks).

``Usher-Signature: v1=<hex>`` is HMAC-SHA256 over ``<timestamp>.<event id>.<body>``; the timestamp
(Unix seconds) bounds replay in time, the event id lets the receiver drop what it has seen.
"""

import hashlib
import hmac

HEADER_EVENT_ID = "Usher-Event-Id"
HEADER_TIMESTAMP = "Usher-Timestamp"
HEADER_SIGNATURE = "Usher-Signature"
#: Seconds a message may be old, or in the future, before it is refused.
TOLERANCE_SECONDS = 300


def sign(secret: str, *, timestamp: int, event_id: str, body: bytes) -> str:
    message = b".".join((str(timestamp).encode(), event_id.encode(), body))
    return "v1=" + hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def verify(
    secret: str, signature: str, *, timestamp: int, event_id: str, body: bytes, now: float
) -> bool:
    """Whether the signature is right and the timestamp within the tolerance of ``now``."""
    expected = sign(secret, timestamp=timestamp, event_id=event_id, body=body)
    fresh = abs(now - timestamp) <= TOLERANCE_SECONDS
    return hmac.compare_digest(expected.encode(), signature.encode()) and fresh and bool(secret)
