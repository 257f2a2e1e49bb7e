"""Runs the sender in a background thread, so that it does not delay requests.

Each process has at most one such thread, which runs while messages are waiting. Messages left when
the process ends are sent after the next change, or by ``manage.py lms usher_send_events``.
"""

from __future__ import annotations

import logging
import threading

from django.db import DatabaseError, connections
from django.utils import timezone

log = logging.getLogger(__name__)

#: Seconds between two checks for due messages. The minimum protects an application that does not
#: answer; the maximum finds messages that another process has added.
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 10, 300

_lock = threading.Lock()
_check_requested = threading.Event()
#: The running sender; empty if none is running.
_threads: list[threading.Thread] = []


def wake_sender() -> None:
    """Make this process's sender check for due messages; start it if it isn't running."""
    with _lock:
        _check_requested.set()
        if not _threads:
            thread = threading.Thread(target=_run, name="usher-sender", daemon=True)
            _threads.append(thread)
            thread.start()


def wait_for_sender(seconds: float = 10) -> None:
    """Wait until this process's sender has nothing left to send, but not longer than ``seconds``.

    For management commands: the sender ends with the process.
    """
    for thread in list(_threads):
        thread.join(seconds)


def _run() -> None:
    """Send messages and delete old rows until no message is waiting."""
    from usher.lms.events.retention import delete_old_if_due
    from usher.lms.events.sender import send_due

    try:
        while True:
            _check_requested.clear()
            send_due()
            delete_old_if_due()
            seconds_to_next = _seconds_to_next_message()
            connections.close_all()
            with _lock:
                if seconds_to_next is None and not _check_requested.is_set():
                    _threads.clear()
                    return
            # None: a check was requested after the last message was sent, so don't wait.
            _check_requested.wait(seconds_to_next or 0)
    except DatabaseError:
        log.exception("The sender of webhooks stopped; the next change starts it again.")
    finally:
        connections.close_all()
        with _lock:
            # Whatever ended this thread, the next change has to find no thread, and start one.
            if threading.current_thread() in _threads:
                _threads.clear()


def _seconds_to_next_message() -> float | None:
    """Seconds until a message is due, within the limits; None when no message is waiting."""
    from usher.lms.events.models import Message

    waiting = Message.objects.filter(next_attempt_at__isnull=False)
    next_attempt_at = (
        waiting.order_by("next_attempt_at").values_list("next_attempt_at", flat=True).first()
    )
    if next_attempt_at is None:
        return None
    seconds = (next_attempt_at - timezone.now()).total_seconds()
    return min(max(seconds, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS)
