"""The states of a record and their names in the admin, the console, pages and commands."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet
from django.utils import timezone

from usher.engine.models import IN_SYNC


class State(StrEnum):
    """In sync: the LMS has the desired state. Pending: not sent yet. Retrying: failed, and will be
    retried automatically. Refused: the LMS refuses it; a person must act. Deactivated (accounts
    only): active here, and deactivated by the LMS's staff."""

    IN_SYNC = "In sync"
    PENDING = "Pending"
    RETRYING = "Retrying"
    REFUSED = "Refused"
    DEACTIVATED = "Deactivated in the LMS"

    @property
    def slug(self) -> str:
        """For machines: ``in_sync``."""
        return self.name.lower()


def states_of(model: type[Any]) -> list[State]:
    """The states that records of this model can be in."""
    is_account = hasattr(model, "DEACTIVATED_IN_LMS")
    return [state for state in State if is_account or state is not State.DEACTIVATED]


def state(row: Any) -> State:
    """The state of any record that is kept in sync."""
    if row.refused_at:
        return State.REFUSED
    # A settled row can have an error, of its last check.
    if row.is_settled and not row.error_code:
        is_deactivated = getattr(row, "is_deactivated_in_lms", False)
        return State.DEACTIVATED if is_deactivated else State.IN_SYNC
    return State.RETRYING if row.attempts else State.PENDING


def in_state(rows: QuerySet[Any], state: State) -> QuerySet[Any]:
    """Those of ``rows`` whose state is ``state``."""
    if state is State.REFUSED:
        return rows.filter(work__refused_at__isnull=False)
    rows = rows.filter(work__refused_at__isnull=True)
    deactivated: Q | None = getattr(rows.model, "DEACTIVATED_IN_LMS", None)
    if state is State.DEACTIVATED:
        return rows.filter(IN_SYNC, deactivated) if deactivated else rows.none()
    if state is State.IN_SYNC:
        rows = rows.filter(IN_SYNC)
        return rows.exclude(pk__in=rows.filter(deactivated)) if deactivated else rows
    has_attempts = Q(work__attempts__gt=0)
    if state is State.RETRYING:
        return rows.filter(~IN_SYNC, has_attempts)
    return rows.filter(~IN_SYNC, ~has_attempts)


def next_step(row: Any) -> str:
    """A sentence that says what happens next with a record, and when; '' if nothing will."""
    now = timezone.now()
    if row.refused_at:
        return getattr(row, "SENT_AGAIN", "") or (
            "Not sent again until somebody removes the cause and retries it."
        )
    if row.lease_until and row.lease_until > now:
        remaining = (row.lease_until - now).total_seconds()
        return (
            "A worker is processing it. If that worker was killed, another one continues in "
            f"{duration_text(remaining)}."
        )
    if row.due_at is None:
        if state(row) is State.DEACTIVATED:
            return (
                "It stays deactivated until somebody activates it, in the LMS's admin or in the "
                "admin here."
            )
        return ""
    seconds = (row.due_at - now).total_seconds()
    if row.attempts:
        verb = "Tried again"
    elif row.is_settled or row.error_code:
        # A row with an error code and no attempt waits for something else, such as its account.
        verb = "Checked again"
    else:
        verb = "Sent"
    if seconds <= 0:
        return f"Due now: {verb.lower()} when a worker is free."
    return f"{verb} in {duration_text(seconds)}."


def duration_text(seconds: float) -> str:
    """Seconds as people read them: ``40 s``, ``12 min``, ``3 h``, ``5 days``; at least ``1 s``. A
    unit is used from two of it on, so 90 seconds are ``90 s``."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{max(seconds, 1):.0f} s"
