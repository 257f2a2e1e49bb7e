"""How many failures are written: anybody can make a request fail, as often as they like.

Counted by event and address, and by event alone for those who have many addresses. What was not
written is told by the next event that is.
"""

from __future__ import annotations

import time
from hashlib import sha256

from django.conf import settings
from django.core.cache import cache

WINDOW_SECONDS = 60
#: Of one event from one address in a minute; ``USHER_AUDIT_FAILURES_A_MINUTE``.
FAILURES_A_WINDOW = 30
#: Of one event from all addresses, times the above.
ADDRESSES = 10


def suppressed(name: str, address: str | None) -> int | None:
    """None when the event is one too many, else how many were left out before it."""
    limit = int(getattr(settings, "USHER_AUDIT_FAILURES_A_MINUTE", FAILURES_A_WINDOW))
    window = int(time.time()) // WINDOW_SECONDS
    left_out = _key("left-out", name)
    from_there = _count(_key(name, address or "", str(window)))
    if from_there > limit or _count(_key(name, str(window))) > ADDRESSES * limit:
        _count(left_out, seconds=86400)
        return None
    found = int(cache.get(left_out) or 0)
    if found:
        cache.delete(left_out)
    return found


def _count(key: str, seconds: int = 2 * WINDOW_SECONDS) -> int:
    cache.add(key, 0, seconds)
    try:
        return int(cache.incr(key))
    except ValueError:  # ended between the two calls
        return 1


def _key(*parts: str) -> str:
    return "usher-audit-" + sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:40]
