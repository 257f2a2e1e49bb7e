"""``record`` and ``record_many`` write events to the audit log and to the process's log."""

from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest

from usher.application.audit import bounds
from usher.application.audit.models import AuditEvent
from usher.application.audit.text import NAME_LENGTH, one_line, safe
from usher.application.logs import logger

log = logger("usher.audit")


class Event(NamedTuple):
    """An event for ``record_many``. The fields are those of ``record``."""

    name: str
    subject: object
    succeeded: bool = True
    detail: dict[str, Any] = {}


def record(
    name: str,
    *,
    subject: object = "",
    actor: Any = None,
    request: HttpRequest | None = None,
    succeeded: bool = True,
    **detail: Any,
) -> AuditEvent:
    """Writes one event. Returns it, unsaved if too many failures were written this minute.

    name: ``sign-in``, ``account-created`` …; subject: the user or object that the event is about.
    actor: the user who caused it; None for a machine. request: gives the client's address. Failures
    without an actor are limited, see ``bounds``.
    """
    address = client_address(request) if request is not None else None
    event = AuditEvent(
        name=one_line(name, NAME_LENGTH),
        subject=one_line(subject),
        actor=actor if getattr(actor, "pk", None) else None,  # an AnonymousUser has no key
        address=address,
        succeeded=succeeded,
        detail=safe(detail),
    )
    if not succeeded and event.actor_id is None:
        suppressed = bounds.count_failure(event.name, address)
        if suppressed is None:
            return event
        if suppressed:
            event.detail["not_written_before"] = suppressed
    event.save()
    write = log.info if succeeded else log.warning
    write(event.name, subject=event.subject, address=address or "", **event.detail)
    return event


def record_many(events: Iterable[Event]) -> None:
    """Writes events without an actor, such as those of the engine, in one statement. Does nothing
    if the audit app is not installed."""
    if not apps.is_installed("usher.application.audit"):
        return
    rows = [
        AuditEvent(
            name=one_line(event.name, NAME_LENGTH),
            subject=one_line(event.subject),
            succeeded=event.succeeded,
            detail=safe(event.detail),
        )
        for event in events
    ]
    if not rows:
        return
    AuditEvent.objects.bulk_create(rows, batch_size=500)
    for (name, succeeded), count in Counter((row.name, row.succeeded) for row in rows).items():
        log.info(name, count=count, failed=0 if succeeded else count)


def client_address(request: HttpRequest) -> str | None:
    """The client's IP address; None if the value is not an IP address.

    The address is read from the header named by ``USHER_CLIENT_ADDRESS_HEADER``, such as
    ``X-Real-IP``. The proxy must set that header and remove it from clients' requests. Without the
    setting, returns the address of the connection.
    """
    header = getattr(settings, "USHER_CLIENT_ADDRESS_HEADER", "")
    address = request.headers.get(header, "") if header else request.META.get("REMOTE_ADDR", "")
    # In a list, the proxy itself added the last address.
    last_address = address.split(",")[-1].strip()
    try:
        return str(ip_address(last_address))
    except ValueError:
        return None
