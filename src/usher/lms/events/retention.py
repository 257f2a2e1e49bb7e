"""Old rows of the plugin's tables, removed by the process that adds new ones.

An LMS run by Tutor has no clock that starts jobs. The tables only grow by sign-ins and changes,
which wake the sender, so the sender removes what is old, once an hour.
"""

from __future__ import annotations

import time

#: Seconds.
EVERY = 3600.0

_last = time.monotonic() - EVERY + 60


def forget_old() -> int:
    """Messages, sessions and token ids older than they need to be; how many."""
    from usher.lms.events import sender
    from usher.lms.signout import services as signout

    return sender.prune() + signout.prune()


def is_due() -> bool:
    """Whether this process removed nothing within the hour."""
    return time.monotonic() - _last >= EVERY


def forget_due() -> None:
    """``forget_old`` when it is due."""
    global _last
    if is_due():
        _last = time.monotonic()
        forget_old()
