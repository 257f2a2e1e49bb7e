"""Waking the sender after a commit, without holding the request up.

One thread a process at most; it ends when nothing is due. What it can't deliver now is tried again
by the next wake-up, or by ``manage.py lms usher_send_events`` run by a timer.
"""

from __future__ import annotations

import logging
import threading

from django.db import DatabaseError, connections

log = logging.getLogger(__name__)

_lock = threading.Lock()
_state = {"running": False, "again": False}


def wake_sender() -> None:
    """Start the sender, or have the running one look again."""
    with _lock:
        if _state["running"]:
            _state["again"] = True
            return
        _state["running"] = True
    threading.Thread(target=_run, name="usher-sender", daemon=True).start()


def _run() -> None:
    from usher.lms.events.sender import send_due

    try:
        while True:
            send_due()
            with _lock:
                if not _state["again"]:
                    _state["running"] = False
                    return
                _state["again"] = False
    except DatabaseError:
        log.exception("The sender stopped; the next change wakes it again.")
    finally:
        with _lock:
            _state["running"] = _state["again"] = False
        connections.close_all()
