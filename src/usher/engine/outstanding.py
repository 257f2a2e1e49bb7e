"""Messages that were sent to workers and are not worked off: none is sent a second time."""

from __future__ import annotations

from datetime import timedelta

from django.db import IntegrityError, transaction

from usher.engine.clock import database_now
from usher.engine.models import OutstandingMessage

#: A message that no worker took for so long was lost, as by a broker that was emptied. Sweeps come
#: through the same queue: where nobody takes messages, nobody sends them either, so the queue does
#: not grow. The message has no expiry, which a worker whose clock is ahead would take for past.
KEPT_SECONDS = 60.0


def begin(name: str) -> bool:
    """Whether the message may be sent: no other of that name is outstanding."""
    now = database_now()
    until = now + timedelta(seconds=KEPT_SECONDS)
    rows = OutstandingMessage.objects.filter(name=name)
    if rows.filter(until__lte=now).update(until=until):
        return True
    if rows.exists():
        return False
    try:
        with transaction.atomic():
            OutstandingMessage.objects.create(name=name, until=until)
    except IntegrityError:
        return False
    return True


def taken(name: str, seconds: float) -> None:
    """A worker has the message and ends within that time, unless it dies."""
    until = database_now() + timedelta(seconds=seconds)
    OutstandingMessage.objects.filter(name=name).update(until=until)


def end(name: str) -> None:
    """It was worked off."""
    OutstandingMessage.objects.filter(name=name).update(until=database_now())
