"""Limits how many failures a minute are written to the audit log, since anybody can cause them.

Failures are counted for each event and address, and for each event over all addresses. The next
event that is written has the number of failures that were left out before it.
"""

from __future__ import annotations

import time
from hashlib import sha256

from django.conf import settings
from django.core.cache import cache

WINDOW_SECONDS = 60
#: The most failures of one event from one address that are written in a minute, by default.
FAILURES_A_WINDOW = 30
#: The limit of one event from all addresses together, as a multiple of the limit for one address.
ADDRESSES_FACTOR = 10
#: Seconds for which the number of failures that were left out is kept: a day.
_SUPPRESSED_SECONDS = 86400


def count_failure(name: str, address: str | None) -> int | None:
    """Counts this failure. Returns None if it must be left out of the audit log; else how many
    failures were left out since the last one that was written.

    name: the event's. address: the client's, if it is known. The limit is the setting
    ``USHER_AUDIT_FAILURES_A_MINUTE``.
    """
    limit = int(getattr(settings, "USHER_AUDIT_FAILURES_A_MINUTE", FAILURES_A_WINDOW))
    window = int(time.time()) // WINDOW_SECONDS
    suppressed_key = _key("left-out", name)
    count_of_address = _increment(_key(name, address or "", str(window)))
    is_left_out = count_of_address > limit
    if not is_left_out:
        count_of_all = _increment(_key(name, str(window)))
        is_left_out = count_of_all > ADDRESSES_FACTOR * limit
    if is_left_out:
        _increment(suppressed_key, seconds=_SUPPRESSED_SECONDS)
        return None
    suppressed = int(cache.get(suppressed_key) or 0)
    if suppressed:
        cache.delete(suppressed_key)
    return suppressed


def _increment(key: str, seconds: int = 2 * WINDOW_SECONDS) -> int:
    """Adds 1 to the counter, which expires after so many seconds, and returns the new value. The
    default outlasts the window whose number is part of the key."""
    cache.add(key, 0, timeout=seconds)
    try:
        return int(cache.incr(key))
    except ValueError:  # expired between the two calls
        return 1


def _key(*parts: str) -> str:
    return "usher-audit-" + sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:40]
