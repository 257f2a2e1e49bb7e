"""Tells workers that rows are due. Losing such a word loses nothing: the sweep finds the rows."""

from __future__ import annotations

import contextlib

from django.conf import settings as django_settings
from django.db import transaction


def wake_soon() -> None:
    """After the transaction: one task for whoever is there. No broker, no harm."""
    if not _has_broker():
        return
    transaction.on_commit(_send, robust=True)


def _has_broker() -> bool:
    url = str(getattr(django_settings, "CELERY_BROKER_URL", "") or "")
    return bool(url) and not url.startswith("memory:")


def _send() -> None:
    from usher.application.engine.tasks import work

    with contextlib.suppress(Exception):
        work.apply_async(retry=False, ignore_result=True, expires=60)
