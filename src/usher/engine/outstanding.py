"""Records the messages that were sent to workers and not yet processed, so that no message is sent
twice."""

from __future__ import annotations

from datetime import timedelta

from django.db import IntegrityError, transaction

from usher.engine.clock import database_now
from usher.engine.models import OutstandingMessage

#: Seconds after which a message that no worker took counts as lost, for example because the broker
#: was emptied. While workers are busy, replacements of lost messages do not fill the queue, because
#: the sweeps that send the replacements wait in the same queue. Messages have no expiry in Celery,
#: because a worker whose clock is ahead would discard them.
LOST_AFTER_SECONDS = 60.0


def begin(name: str) -> bool:
    """Marks the message as outstanding. Returns whether to send it: False if a message of that name
    is outstanding already."""
    now = database_now()
    until = now + timedelta(seconds=LOST_AFTER_SECONDS)
    rows = OutstandingMessage.objects.filter(name=name)
    if rows.filter(until__lte=now).update(until=until):
        return True  # the earlier message of that name has been processed, or is lost
    if rows.exists():
        return False
    try:
        with transaction.atomic():
            OutstandingMessage.objects.create(name=name, until=until)
    except IntegrityError:
        return False  # another process has created it in the meantime
    return True


def extend(name: str, seconds: float) -> None:
    """Records that a worker has taken the message: it counts as lost after ``seconds``."""
    until = database_now() + timedelta(seconds=seconds)
    OutstandingMessage.objects.filter(name=name).update(until=until)


def end(name: str) -> None:
    """Records that the message has been processed."""
    OutstandingMessage.objects.filter(name=name).update(until=database_now())
