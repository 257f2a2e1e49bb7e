"""Takes due rows so that no other worker works on them, and keeps them while it does."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import models, transaction
from django.db.models import Q

from usher.application.engine.clock import database_now
from usher.application.engine.kinds import Kind
from usher.application.engine.models import lock
from usher.application.engine.policy import LONGEST_DELAY
from usher.application.engine.transactions import retried

#: What clocks of healthy machines differ by at most, and more.
CLOCKS_APART = timedelta(seconds=10)


@dataclass(frozen=True)
class Scope:
    """Which rows of a kind: of a learner, of a run, of a range of ids (end not included)."""

    user_id: int | None = None
    run_id: int | None = None
    first_id: int | None = None
    end_id: int | None = None

    def of(self, kind: Kind) -> Q | None:
        """The condition for that kind; None when the scope excludes the kind altogether."""
        found = Q()
        for value, name in ((self.user_id, kind.user_field), (self.run_id, kind.run_field)):
            if value is not None:
                if not name:
                    return None
                found &= Q(**{name: value})
        if self.first_id is not None:
            found &= Q(pk__gte=self.first_id)
        if self.end_id is not None:
            found &= Q(pk__lt=self.end_id)
        return found


def claim(kind: Kind, scope: Scope, limit: int, lease_seconds: float) -> tuple[str, list[Any]]:
    """A new lease and at most ``limit`` rows that it holds, longest due first."""
    condition = scope.of(kind)
    if condition is None:
        return "", []
    owner = str(uuid.uuid4())
    with transaction.atomic():
        now = database_now()
        due = kind.rows().filter(condition).due(now)
        ids = list(
            due.select_for_update(skip_locked=True)
            .order_by("next_attempt_at", "pk")
            .values_list("pk", flat=True)[:limit]
        )
        if not ids:
            return owner, []
        until = now + timedelta(seconds=lease_seconds)
        # The condition again: where rows can't be locked, only one of two claims finds them due.
        kind.rows().filter(pk__in=ids).due(now).update(lease_owner=owner, lease_until=until)
    rows = kind.rows().filter(pk__in=ids, lease_owner=owner).select_related(*kind.related)
    return owner, list(rows)


def renew(model: type[models.Model], rows: Iterable[Any], lease_seconds: float) -> None:
    """Says that these rows are still worked on; rows that others took are left alone."""
    rows, until = list(rows), database_now() + timedelta(seconds=lease_seconds)
    retried(lambda: _held(model, rows).update(lease_until=until))


def release(model: type[models.Model], rows: Iterable[Any]) -> None:
    """Gives rows back untried, so that nobody waits for the lease to end."""
    rows = list(rows)
    retried(lambda: _held(model, rows).update(lease_owner="", lease_until=None))


def _held(model: type[models.Model], rows: Iterable[Any]) -> models.QuerySet[Any]:
    """In a transaction, which then has these rows locked."""
    held = {row.pk: row.lease_owner for row in rows}
    found = model._default_manager.filter(pk__in=held, lease_owner__in=set(held.values()))
    lock(found)
    return found


def unjam(kind: Kind, lease_seconds: float) -> int:
    """Frees rows that a clock which jumped put out of reach; returns how many.

    No retry lies further ahead than the longest delay, no lease further than its length, and what
    was never tried is due now.
    """
    now = database_now()
    manager = kind.model._default_manager
    far = manager.filter(
        attempts__gt=0, next_attempt_at__gt=now + timedelta(seconds=2 * LONGEST_DELAY)
    ).update(next_attempt_at=now)
    untried = kind.rows().unsettled().filter(attempts=0, error_code="")
    early = untried.filter(next_attempt_at__gt=now + CLOCKS_APART).update(next_attempt_at=now)
    held = manager.filter(lease_until__gt=now + timedelta(seconds=10 * lease_seconds)).update(
        lease_owner="", lease_until=None
    )
    return far + early + held
