"""``record`` writes one event to the audit log and to the process's log, ``record_many`` many."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest

from usher.application.audit import bounds
from usher.application.audit.models import AuditEvent
from usher.application.audit.text import one_line, safe
from usher.application.logs import logger

log = logger("usher.audit")


def record(
    name: str,
    *,
    subject: object = "",
    actor: Any = None,
    request: HttpRequest | None = None,
    succeeded: bool = True,
    **detail: Any,
) -> AuditEvent:
    """Write that ``name`` (``sign-in``, ``account-created`` …) happened to ``subject``.

    actor: the user who did it; None for a machine. request: gives the address. What strangers
    fail to do is written a bounded number of times a minute; the event is returned unsaved then.
    """
    address = client_address(request) if request is not None else None
    event = AuditEvent(
        name=one_line(name, 60),
        subject=one_line(subject),
        actor=actor if getattr(actor, "pk", None) else None,
        address=address,
        succeeded=succeeded,
        detail=safe(detail),
    )
    if not succeeded and event.actor_id is None:
        suppressed = bounds.suppressed(event.name, address)
        if suppressed is None:
            return event
        if suppressed:
            event.detail["not_written_before"] = suppressed
    event.save()
    write = log.info if succeeded else log.warning
    write(event.name, subject=event.subject, address=address or "", **event.detail)
    return event


def record_many(name: str, events: Iterable[tuple[object, bool, dict[str, Any]]]) -> None:
    """Write that ``name`` happened to each subject, in one statement: what the engine did.

    events: (subject, succeeded, detail). Nothing where the audit app is not installed.
    """
    if not apps.is_installed("usher.application.audit"):
        return
    rows = [
        AuditEvent(
            name=one_line(name, 60),
            subject=one_line(subject),
            succeeded=succeeded,
            detail=safe(detail),
        )
        for subject, succeeded, detail in events
    ]
    if rows:
        AuditEvent.objects.bulk_create(rows, batch_size=500)
        log.info(rows[0].name, count=len(rows), failed=sum(not row.succeeded for row in rows))


def client_address(request: HttpRequest) -> str | None:
    """Where a request came from.

    Behind a proxy, name the header that it sets, and that nobody else can set, in
    ``USHER_CLIENT_ADDRESS_HEADER`` (``X-Real-IP``); without one it is the peer's address.
    """
    header = getattr(settings, "USHER_CLIENT_ADDRESS_HEADER", "")
    found = request.headers.get(header, "") if header else request.META.get("REMOTE_ADDR", "")
    text = found.split(",")[-1].strip()
    try:
        return str(ip_address(text))
    except ValueError:
        return None
