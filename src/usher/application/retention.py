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
INTERVAL_SECONDS = 3600.0
_ROWS_A_PORTION = 1000
#: The most rows of one table in one removal. The first removal of millions of rows takes several
#: hours of sweeps.
_MAX_ROWS = 100_000

#: The time of the last removal. At first, as if it was 59 minutes ago: the first removal comes a
#: minute after the start, so that short commands remove nothing.
_last_removal = time.monotonic() - INTERVAL_SECONDS + 60


def forget_due() -> None:
    """Calls ``forget_old``, at most once an hour in each process."""
    global _last_removal
    if time.monotonic() - _last_removal < INTERVAL_SECONDS:
        return
    _last_removal = time.monotonic()
    forget_old()


def forget_old() -> dict[str, int]:
    """Removes rows past their retention. Returns table's name → how many rows were removed."""
    counts = {name: forget() for name, forget in _REMOVALS.items()}
    clear_expired()  # codes and tokens that this application issued; also in portions
    if any(counts.values()):
        log.info("old rows removed", **counts)
    return counts


def remove(rows: QuerySet[Any]) -> int:
    """Deletes these rows portion by portion, and stops after ``_MAX_ROWS``; the next call deletes
    more. Returns how many were deleted."""
    count = 0
    while count < _MAX_ROWS:
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:_ROWS_A_PORTION])
        if not ids:
            break
        rows.model._default_manager.filter(pk__in=ids).delete()
        count += len(ids)
    return count


def _remove_audit_events() -> int:
    days = int(getattr(settings, "USHER_AUDIT_DAYS", AUDIT_DAYS))
    # 0 keeps them for ever.
    if days <= 0 or not apps.is_installed("usher.application.audit"):
        return 0
    from usher.application.audit.models import AuditEvent

    return remove(AuditEvent.objects.filter(at__lt=timezone.now() - timedelta(days=days)))


def _remove_webhook_ids() -> int:
    from usher.application.webhooks.services import seen_messages_to_forget

    return remove(seen_messages_to_forget())


def _remove_sign_out_ids() -> int:
    from usher.application.provider.signout.receiving import seen_messages_to_forget

    return remove(seen_messages_to_forget())


def _remove_session_records() -> int:
    from usher.application.provider.signout.sessions import expired_sessions

    return remove(expired_sessions())


def register(name: str, forget: Callable[[], int]) -> None:
    """Adds another app's table. forget: removes the table's rows past their retention and returns
    how many rows it removed."""
    _REMOVALS[name] = forget


#: Table's name → removes its old rows, and returns how many.
_REMOVALS: dict[str, Callable[[], int]] = {
    "audit": _remove_audit_events,
    "webhooks": _remove_webhook_ids,
    "sign_outs": _remove_sign_out_ids,
    "sessions": _remove_session_records,
}
