"""Sends workers a message that rows are due. If it is lost, the next sweep finds the rows."""

from __future__ import annotations

import contextlib
import sys
import time

from django.conf import settings as django_settings
from django.db import transaction
from django.utils.module_loading import import_string

from usher.engine.lanes import Lane, current_lane

#: Seconds between two messages of one process about background work.
_EVERY = 5.0
_WORK = "usher.engine.tasks.work"
_last = 0.0


def notify_workers(user_id: int | None = None) -> None:
    """When the transaction commits, sends one Celery task for the due rows of this user, or of all
    users for None. Does nothing without a broker, and never raises.

    In the background lane it sends at most one task in five seconds, for all users.
    """
    if not broker_url():
        return
    if current_lane() is Lane.INTERACTIVE:
        transaction.on_commit(lambda: _send(user_id), robust=True)
    else:
        transaction.on_commit(_send_now_and_then, robust=True)


def _send_now_and_then() -> None:
    global _last
    if not _last or time.monotonic() - _last >= _EVERY:
        _last = time.monotonic()
        _send(None)


def broker_url() -> str:
    """The URL of Celery's broker; '' when the project has none, or an in-memory one for tests.

    It is ``CELERY_BROKER_URL``, or that of the current Celery app, which a project may configure
    without Django's settings.
    """
    url = str(getattr(django_settings, "CELERY_BROKER_URL", "") or "")
    if not url and "celery" in sys.modules:
        from celery import current_app

        url = str(current_app.conf.broker_url or "")
    return "" if url.startswith("memory:") else url


def _send(user_id: int | None) -> None:
    work = import_string(_WORK)  # imported late: tasks import this module
    queue = interactive_queue() if user_id else ""
    options = {"queue": queue} if queue else {}
    with contextlib.suppress(Exception):
        work.apply_async((user_id,), retry=False, ignore_result=True, expires=60, **options)


def interactive_queue() -> str:
    """``USHER_INTERACTIVE_QUEUE``: the Celery queue for interactive work, for projects that run
    separate workers for it. '' is the default queue."""
    return str(getattr(django_settings, "USHER_INTERACTIVE_QUEUE", "") or "")
