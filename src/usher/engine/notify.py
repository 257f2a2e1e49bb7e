"""Tells workers that rows are due. If the message is lost, the next sweep finds the rows."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from django.conf import settings as django_settings
from django.db import transaction
from django.utils.module_loading import import_string

from usher.engine.lanes import Lane, current_lane

#: Seconds between two messages of one process about background work.
_SECONDS_BETWEEN_MESSAGES = 5.0
_TASK = "usher.engine.tasks.work"
#: When this process last sent a message about background work, in monotonic seconds; 0 for never.
_last_sent = 0.0
#: Seconds in which a broker must accept a message.
_BROKER_TIMEOUT_SECONDS = 1.0
#: Seconds for which a process sends no message after a message failed, so that few visitors wait
#: for a broker that is down.
_PAUSE_SECONDS = 5.0
#: When this process last failed to send a message, in monotonic seconds; 0 if it did not.
_failed_at = 0.0
log = logging.getLogger(__name__)


def notify_workers(user_id: int | None = None) -> None:
    """Sends one Celery task for the due rows of this user (None: of all users), as soon as the
    transaction commits. Does nothing without a broker, and never raises.

    In the background lane, one process sends at most one task in five seconds, for all users.
    """
    if not broker_url():
        return
    if current_lane() is Lane.INTERACTIVE:
        transaction.on_commit(lambda: _send(user_id), robust=True)
    else:
        transaction.on_commit(_send_if_due, robust=True)


def _send_if_due() -> None:
    """Sends a message about the work of all users, unless this process sent one in the last five
    seconds."""
    global _last_sent
    if not _last_sent or time.monotonic() - _last_sent >= _SECONDS_BETWEEN_MESSAGES:
        _last_sent = time.monotonic()
        _send(user_id=None)


def broker_url() -> str:
    """The URL of Celery's broker; '' if the project has no broker, or an in-memory broker for
    tests.

    The URL is the setting ``CELERY_BROKER_URL``, or else the broker URL of the current Celery app,
    which a project may configure without Django's settings.
    """
    url = str(getattr(django_settings, "CELERY_BROKER_URL", "") or "")
    if not url and "celery" in sys.modules:
        from celery import current_app

        url = str(current_app.conf.broker_url or "")
    return "" if url.startswith("memory:") else url


def _send(user_id: int | None) -> None:
    """Sends the task. If that fails, only notes when, and sends nothing for ``_PAUSE_SECONDS``: the
    next sweep finds the rows."""
    global _failed_at
    if _failed_at and time.monotonic() - _failed_at < _PAUSE_SECONDS:
        return
    task = import_string(_TASK)  # imported late: tasks import this module
    queue = interactive_queue() if user_id else ""
    options = {"queue": queue} if queue else {}
    try:
        with _producer() as producer:
            task.apply_async(
                (user_id,),
                producer=producer,
                retry=False,
                ignore_result=True,
                expires=60,  # by then a sweep has found the rows
                **options,
            )
        _failed_at = 0.0
    except Exception:  # whatever a broker's library raises
        log.debug("no message was sent", exc_info=True)
        _failed_at = time.monotonic()


def broker_error() -> str:
    """Why Celery's broker can't be reached; '' if the broker answers or the project has none. Waits
    at most a few seconds."""
    if not broker_url():
        return ""
    try:
        with _connection() as connection:
            connection.ensure_connection(
                max_retries=1, interval_start=0, timeout=3 * _BROKER_TIMEOUT_SECONDS
            )
    except Exception as error:  # noqa: BLE001 - every transport has errors of its own
        return connection_error(broker_url(), error)
    return ""


def connection_error(url: str, error: Exception) -> str:
    """A sentence about a failed connection to the broker at ``url``: the broker's address without
    its password, and the error."""
    reason = " ".join(str(error).split()) or type(error).__name__
    # Celery accepts several addresses, separated by semicolons.
    scheme, _, rest = url.split(";")[0].partition("://")
    login, _, server = rest.partition("?")[0].rpartition("@")
    if password := login.partition(":")[2]:
        reason = reason.replace(password, "…").replace(unquote(password), "…")
    return f"{scheme}://{server}: {reason.rstrip('.')}."


@contextmanager
def _producer() -> Iterator[Any]:
    """A producer that gives up soon, because a visitor may be waiting. Celery's own producer
    retries a failed connection for seconds, and waits without limit for a Redis that does not
    answer."""
    from kombu import pools

    with pools.producers[_connection()].acquire(
        block=True, timeout=_BROKER_TIMEOUT_SECONDS
    ) as producer:
        yield producer


def _connection() -> Any:
    """A connection to the broker that fails soon and does not retry."""
    from celery import current_app

    options = {**(current_app.conf.broker_transport_options or {}), "max_retries": 0}
    if broker_url().startswith(("redis", "rediss")):
        options |= {
            "socket_connect_timeout": _BROKER_TIMEOUT_SECONDS,
            "socket_timeout": _BROKER_TIMEOUT_SECONDS,
        }
    return current_app.connection_for_write(transport_options=options)


def interactive_queue() -> str:
    """``USHER_INTERACTIVE_QUEUE``: the Celery queue for interactive work, for projects that run
    separate workers for it. '' is the default queue."""
    return str(getattr(django_settings, "USHER_INTERACTIVE_QUEUE", "") or "")
