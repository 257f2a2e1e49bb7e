"""Takes due rows so that no other worker works on them, and keeps them while it does."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import connection, models
from django.db.models import Q

from usher.engine.clock import database_now, moment
from usher.engine.kinds import Kind
from usher.engine.lanes import Lane
from usher.engine.policy import LONGEST_DELAY
from usher.engine.transactions import retried
from usher.engine.work import Work, due

#: What clocks of healthy machines differ by at most, and more.
CLOCKS_APART = timedelta(seconds=10)


@dataclass(frozen=True)
class Scope:
    """Which rows of a kind: of a user, about an object that rows refer to, of a range of ids (end
    not included)."""

    user_id: int | None = None
    about: models.Model | None = None
    first_id: int | None = None
    end_id: int | None = None

    def of(self, kind: Kind) -> Q | None:
        """The condition for that kind; None when the scope excludes the kind altogether."""
        found = Q()
        if self.user_id is not None:
            if not kind.user_field:
                return None
            found &= Q(**{kind.user_field: self.user_id})
        if self.about is not None:
            column = kind.column_of(type(self.about))
            if not column:
                return None
            found &= Q(**{column: self.about.pk})
        if self.first_id is not None:
            found &= Q(pk__gte=self.first_id)
        if self.end_id is not None:
            found &= Q(pk__lt=self.end_id)
        return found


def claim(
    kind: Kind, scope: Scope, limit: int, lease_seconds: float, *, lane: Lane | None = None
) -> tuple[str, list[Any]]:
    """A new lease and at most ``limit`` rows that it holds, longest due first.

    lane: only rows of this one; None takes the lanes one after the other. Work whose row is gone is
    deleted.
    """
    condition = scope.of(kind)
    if condition is None:
        return "", []
    owner = str(uuid.uuid4())
    leased: dict[int, Work] = {}
    for each in (lane,) if lane is not None or condition else tuple(Lane):
        leased |= _leased(kind, condition, each, limit - len(leased), owner, lease_seconds)
        if len(leased) >= limit:
            break
    rows = list(kind.rows().filter(pk__in=leased).select_related(*kind.related)) if leased else []
    for row in rows:
        row.work = leased.pop(row.pk)
    if leased:
        Work.objects.filter(
            pk__in=[work.pk for work in leased.values()], lease_owner=owner
        ).delete()
    return owner, sorted(rows, key=lambda row: (row.lane, row.next_attempt_at, row.pk))


def _leased(
    kind: Kind, condition: Q, lane: Lane | None, limit: int, owner: str, seconds: float
) -> dict[int, Work]:
    """Id of a row → its work, which is leased now. One statement, which no other can come in
    between."""
    waiting = due(kind.name, moment())
    if lane is not None:
        waiting = waiting.filter(lane=lane)
    if condition:
        waiting = waiting.filter(object_id__in=kind.rows().filter(condition).values("pk"))
    first = waiting.order_by("lane", "due_at", "object_id").values("pk")[:limit]
    chosen, values = first.query.sql_with_params()
    quote = connection.ops.quote_name
    # Chosen once, before anything is updated: a join could choose again for each row.
    chosen = (
        f"= ANY(ARRAY({chosen} FOR UPDATE SKIP LOCKED))"
        if connection.features.has_select_for_update_skip_locked
        else f"IN ({chosen})"
    )
    until, until_values = _compiled(moment(seconds))
    sql = (
        f"UPDATE {quote(Work._meta.db_table)} "  # noqa: S608
        f"SET lease_owner = %s, lease_until = {until} WHERE id {chosen} RETURNING *"
    )
    found = Work.objects.raw(sql, [owner, *until_values, *values])
    return {work.object_id: work for work in found}


def _compiled(expression: Any) -> tuple[str, list[Any]]:
    query = Work.objects.all().query
    compiler = query.get_compiler(connection=connection)
    sql, values = compiler.compile(expression.resolve_expression(query))
    return sql, list(values)


def renew(kind: Kind, rows: Iterable[Any], lease_seconds: float) -> None:
    """Extends the leases of these rows. Skips rows that another worker has claimed since."""
    rows, until = list(rows), database_now() + timedelta(seconds=lease_seconds)
    retried(lambda: _still_leased(kind, rows).update(lease_until=until))


def release(kind: Kind, rows: Iterable[Any]) -> None:
    """Ends the leases of rows that were not tried, so that another worker can claim them."""
    rows = list(rows)
    retried(lambda: _still_leased(kind, rows).update(lease_owner="", lease_until=None))


def _still_leased(kind: Kind, rows: Iterable[Any]) -> models.QuerySet[Work]:
    """Those whose lease is still this worker's; locked for the transaction."""
    owners = {row.pk: row.lease_owner for row in rows}
    found = Work.objects.filter(
        kind=kind.name, object_id__in=owners, lease_owner__in=set(owners.values())
    )
    list(found.select_for_update().order_by("object_id").values_list("pk", flat=True))
    return found


def reset_implausible_times(kind: Kind, lease_seconds: float) -> int:
    """Resets timestamps that a clock jump moved into the future; returns how many rows.

    A retry is at most the longest delay away, and a lease at most its length; rows that were
    never tried are due now.
    """
    now = database_now()
    work = Work.objects.filter(kind=kind.name)
    in_lanes = work.filter(lane__in=Lane.values)  # so that the index of lanes serves
    far = in_lanes.filter(
        attempts__gt=0, due_at__gt=now + timedelta(seconds=2 * LONGEST_DELAY)
    ).update(due_at=now)
    untried = in_lanes.filter(attempts=0, error_code="", due_at__gt=now + CLOCKS_APART)
    early = untried.filter(object_id__in=kind.rows().unsettled().values("pk")).update(due_at=now)
    leased = work.filter(lease_until__gt=now + timedelta(seconds=10 * lease_seconds)).update(
        lease_owner="", lease_until=None
    )
    # What a worker that died had claimed, and was settled by somebody else meanwhile.
    work.filter(due_at=None, parked_at=None, lease_until__lte=now).delete()
    return far + early + leased


def restore_lost(kind: Kind) -> int:
    """Makes due what is not as wanted and has no work, as after a restored backup of one table."""
    return kind.lost().make_due()
