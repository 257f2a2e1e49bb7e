"""Tells workers that rows are due. Losing such a word loses nothing: the sweep finds the rows."""

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
    """After the transaction: one task for a worker, about this user or about what is due. Does
    nothing without a broker. Background work is announced now and then, not for each user."""
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
    """Where tasks are sent to; '' when the project has no broker, or one for tests only.

    A project may configure its Celery app by other names than Django's settings: then the app
    says.
    """
    url = str(getattr(django_settings, "CELERY_BROKER_URL", "") or "")
    if not url and "celery" in sys.modules:
        from celery import current_app

        url = str(current_app.conf.broker_url or "")
    return "" if url.startswith("memory:") else url


def _send(user_id: int | None) -> None:
    work = import_string(_WORK)  # tasks start the engine, which tells workers
    queue = interactive_queue() if user_id else ""
    options = {"queue": queue} if queue else {}
    with contextlib.suppress(Exception):
        work.apply_async((user_id,), retry=False, ignore_result=True, expires=60, **options)


def interactive_queue() -> str:
    """``USHER_INTERACTIVE_QUEUE``: the Celery queue for what a person waits for, where workers of
    its own stand ready. '' is the default queue."""
    return str(getattr(django_settings, "USHER_INTERACTIVE_QUEUE", "") or "")
