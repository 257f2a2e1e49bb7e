"""Tells workers that rows are due. Losing such a word loses nothing: the sweep finds the rows."""

from __future__ import annotations

import contextlib
import sys

from django.conf import settings as django_settings
from django.db import transaction


def wake_soon() -> None:
    """After the transaction: one task for whoever is there. No broker, no harm."""
    if not broker_url():
        return
    transaction.on_commit(_send, robust=True)


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


def _send() -> None:
    from usher.application.engine.tasks import work

    with contextlib.suppress(Exception):
        work.apply_async(retry=False, ignore_result=True, expires=60)
