"""Removes old rows from tables that only record past events.

Called by every sweep (``reconcile --watch``, Celery's ``sweep``) and by a periodic task of its own.
Rows are deleted in portions, so that no statement locks a large part of a table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from oauth2_provider.models import clear_expired

from usher.application.logs import logger

log = logger("usher.retention")

#: Days for which audit events are kept if ``USHER_AUDIT_DAYS`` is not set; 0 would keep them for
#: ever.
AUDIT_DAYS = 400
#: Seconds between two removals by the sweeps of one process.
EVERY = 3600.0
_PORTION = 1000
#: The most rows of one table in one removal. The first removal of millions of rows takes several
#: hours of sweeps.
_MAX_ROWS = 100_000

#: As if the last removal was 59 minutes ago: the first removal comes a minute after the start, so
#: that short commands remove nothing.
_last = time.monotonic() - EVERY + 60


def forget_due() -> None:
    """Calls ``forget_old``, at most once an hour in each process."""
    global _last
    if time.monotonic() - _last < EVERY:
        return
    _last = time.monotonic()
    forget_old()


def forget_old() -> dict[str, int]:
    """Removes rows past their retention. Returns table's name → how many rows were removed."""
    counts = {name: forget() for name, forget in _TABLES.items()}
    clear_expired()  # codes and tokens that this application issued; also in portions
    if any(counts.values()):
        log.info("old rows removed", **counts)
    return counts


def remove(rows: QuerySet[Any]) -> int:
    """Deletes these rows portion by portion. Returns how many."""
    count = 0
    while count < _MAX_ROWS:
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:_PORTION])
        if not ids:
            break
        rows.model._default_manager.filter(pk__in=ids).delete()
        count += len(ids)
    return count


def _audit() -> int:
    days = int(getattr(settings, "USHER_AUDIT_DAYS", AUDIT_DAYS))
    if days <= 0 or not apps.is_installed("usher.application.audit"):
        return 0
    from usher.application.audit.models import AuditEvent

    return remove(AuditEvent.objects.filter(at__lt=timezone.now() - timedelta(days=days)))


def _webhooks() -> int:
    from usher.application.webhooks.services import expired_message_ids

    return remove(expired_message_ids())


def _sign_outs() -> int:
    from usher.application.provider.signout.receiving import expired_message_ids

    return remove(expired_message_ids())


def _sessions() -> int:
    from usher.application.provider.signout.sessions import expired_sessions

    return remove(expired_sessions())


def register(name: str, forget: Callable[[], int]) -> None:
    """Adds another app's table. forget: removes its rows past their retention and returns how
    many."""
    _TABLES[name] = forget


_TABLES: dict[str, Callable[[], int]] = {
    "audit": _audit,
    "webhooks": _webhooks,
    "sign_outs": _sign_outs,
    "sessions": _sessions,
}
