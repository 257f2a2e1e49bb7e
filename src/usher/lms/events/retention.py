"""Deletes old rows of the plugin's tables, in the processes that add new ones.

An LMS run by Tutor has no scheduler. The tables grow only through sign-ins and changes, which start
the sender, so the sender deletes old rows, once an hour in each process.
"""

from __future__ import annotations

import time

#: Seconds between two deletions in one process.
SECONDS_BETWEEN_DELETIONS = 3600.0

#: Seconds after the start of the process until the first deletion is due.
_SECONDS_TO_FIRST_DELETION = 60.0
#: Of this process, by ``time.monotonic``. At first as if so long ago that the next is due soon.
_last_deletion = time.monotonic() - SECONDS_BETWEEN_DELETIONS + _SECONDS_TO_FIRST_DELETION


def delete_old() -> int:
    """Delete old messages, sessions and token ids; return how many."""
    from usher.lms.events import sender
    from usher.lms.signout import services as signout

    return sender.prune() + signout.prune()


def is_due() -> bool:
    """Whether an hour has passed since this process last deleted old rows."""
    return time.monotonic() - _last_deletion >= SECONDS_BETWEEN_DELETIONS


def delete_old_if_due() -> None:
    """Run ``delete_old`` if it is due."""
    global _last_deletion
    if is_due():
        _last_deletion = time.monotonic()
        delete_old()
