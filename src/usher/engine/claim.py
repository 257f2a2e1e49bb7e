"""Claims due rows under a lease, so that no other worker works on them; renews and ends leases."""

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
from usher.engine.models import ReconciledQuerySet
from usher.engine.policy import LONGEST_DELAY
from usher.engine.transactions import retry_transaction
from usher.engine.work import Work, due

#: The clocks of healthy machines differ by less than this.
CLOCKS_APART = timedelta(seconds=10)


@dataclass(frozen=True)
class Scope:
    """Selects rows of a kind: those for which all conditions that are set hold.

    user_id: rows of this user. related_to: rows that refer to this object, such as a course run.
    first_id, end_id: a range of the rows' ids, ``end_id`` not included.
    """

    user_id: int | None = None
    related_to: models.Model | None = None
    first_id: int | None = None
    end_id: int | None = None

    def condition_for(self, kind: Kind) -> Q | None:
        """The condition for rows of ``kind``, empty for all rows; None if the scope excludes every
        row of the kind, for example because the scope is a user and the rows belong to no user."""
        condition = Q()
        if self.user_id is not None:
            if not kind.user_field:
                return None
            condition &= Q(**{kind.user_field: self.user_id})
        if self.related_to is not None:
            column = kind.column_of(type(self.related_to))
            if not column:
                return None
            condition &= Q(**{column: self.related_to.pk})
        if self.first_id is not None:
            condition &= Q(pk__gte=self.first_id)
        if self.end_id is not None:
            condition &= Q(pk__lt=self.end_id)
        return condition


def claim(
    kind: Kind, scope: Scope, limit: int, lease_seconds: float, *, lane: Lane | None = None
) -> tuple[str, list[Any]]:
    """Claims at most ``limit`` due rows. Returns the lease's owner (a UUID, new with each call) and
    the rows, ordered by lane and by the time at which they became due.

    lease_seconds: how long the lease lasts unless ``renew`` extends it. lane: claims only from this
    lane; None claims from all lanes, the most urgent first. Deletes work whose row no longer
    exists. Returns ``("", [])`` when the scope excludes the kind.
    """
    condition = scope.condition_for(kind)
    if condition is None:
        return "", []
    owner = str(uuid.uuid4())
    leased: dict[int, Work] = {}
    # With a condition, few rows are left, so that one statement can claim from all lanes. Without a
    # condition, a statement for each lane can use the queue's index.
    is_one_statement = lane is not None or condition
    for claimed_lane in (lane,) if is_one_statement else tuple(Lane):
        leased |= _lease_due(
            kind,
            condition,
            claimed_lane,
            limit=limit - len(leased),
            owner=owner,
            lease_seconds=lease_seconds,
        )
        if len(leased) >= limit:
            break
    rows = list(_rows_with_data(kind, leased)) if leased else []
    for row in rows:
        row.work = leased.pop(row.pk)
    if leased:  # work without a row: the row was deleted
        Work.objects.filter(
            pk__in=[work.pk for work in leased.values()], lease_owner=owner
        ).delete()
    return owner, sorted(rows, key=lambda row: (row.lane, row.due_at, row.pk))


def _rows_with_data(kind: Kind, ids: Iterable[int]) -> ReconciledQuerySet:
    """The rows with these ids, with all that ``Kind.prepare`` uses."""
    rows = kind.rows().filter(pk__in=ids).select_related(*kind.related)
    return rows.annotate(**kind.annotations)


def _lease_due(
    kind: Kind,
    condition: Q,
    lane: Lane | None,
    *,
    limit: int,
    owner: str,
    lease_seconds: float,
) -> dict[int, Work]:
    """Leases due work. Returns the row's id → its work.

    Uses one statement, so that no other worker can claim the same rows in between.
    """
    due_work = due(kind.name, moment())
    if lane is not None:
        due_work = due_work.filter(lane=lane)
    if condition:
        due_work = due_work.filter(object_id__in=kind.rows().filter(condition).values("pk"))
    first_ids = due_work.order_by("lane", "due_at", "object_id").values("pk")[:limit]
    subquery, parameters = first_ids.query.sql_with_params()
    quote = connection.ops.quote_name
    # The subquery must run once, before the update. In a join, PostgreSQL could run the subquery
    # once for each row.
    is_chosen = (
        f"= ANY(ARRAY({subquery} FOR UPDATE SKIP LOCKED))"
        if connection.features.has_select_for_update_skip_locked
        else f"IN ({subquery})"
    )
    until, until_parameters = _sql_of(moment(lease_seconds))
    sql = (
        f"UPDATE {quote(Work._meta.db_table)} "  # noqa: S608
        f"SET lease_owner = %s, lease_until = {until} WHERE id {is_chosen} RETURNING *"
    )
    leased = Work.objects.raw(sql, [owner, *until_parameters, *parameters])
    return {work.object_id: work for work in leased}


def _sql_of(expression: Any) -> tuple[str, list[Any]]:
    """SQL of a Django expression, and its parameters."""
    query = Work.objects.all().query
    compiler = query.get_compiler(connection=connection)
    sql, parameters = compiler.compile(expression.resolve_expression(query))
    return sql, list(parameters)


def renew(kind: Kind, rows: Iterable[Any], lease_seconds: float) -> set[int]:
    """Extends the leases of these rows to ``lease_seconds`` from now. Skips rows that another
    worker has claimed since. Returns the ids of the rows that are not skipped."""
    rows, until = list(rows), database_now() + timedelta(seconds=lease_seconds)

    def extend() -> set[int]:
        work_ids = _lock_leased(kind, rows)
        Work.objects.filter(pk__in=work_ids.values()).update(lease_until=until)
        return set(work_ids)

    return retry_transaction(extend)


def release(kind: Kind, rows: Iterable[Any]) -> None:
    """Ends the leases of rows that were not tried, so that any worker can claim the rows
    immediately. Skips rows that another worker has claimed since."""
    rows = list(rows)

    def end() -> None:
        work_ids = _lock_leased(kind, rows)
        work = Work.objects.filter(pk__in=work_ids.values())
        work.update(lease_owner="", lease_until=None)

    retry_transaction(end)


def _lock_leased(kind: Kind, rows: Iterable[Any]) -> dict[int, int]:
    """The row's id → the id of its work, for rows whose lease this worker still has. Locks the work
    for the transaction."""
    owners = {row.pk: row.lease_owner for row in rows}
    work = Work.objects.filter(kind=kind.name, object_id__in=owners)
    leased = work.filter(lease_owner__in=set(owners.values())).select_for_update()
    columns = leased.order_by("object_id").values_list("object_id", "pk", "lease_owner")
    return {row_id: work_id for row_id, work_id, owner in columns if owners[row_id] == owner}


def reset_implausible_times(kind: Kind, lease_seconds: float) -> int:
    """Resets timestamps that a clock jump moved into the future. Returns how many rows it changed.

    Such a timestamp is a retry later than twice the longest delay, to which jitter adds at most
    half; a lease longer than ten times ``lease_seconds``; or a due time more than ``CLOCKS_APART``
    in the future of a row that is not in sync and was never tried. Also deletes settled work whose
    lease has run out.
    """
    now = database_now()
    work = Work.objects.filter(kind=kind.name)
    in_lanes = work.filter(lane__in=Lane.values)  # so that the database uses the queue's index
    late_retries = in_lanes.filter(
        attempts__gt=0, due_at__gt=now + timedelta(seconds=2 * LONGEST_DELAY)
    )
    untried = in_lanes.filter(attempts=0, error_code="", due_at__gt=now + CLOCKS_APART)
    late_new_rows = untried.filter(object_id__in=kind.rows().unsettled().values("pk"))
    long_leases = work.filter(lease_until__gt=now + timedelta(seconds=10 * lease_seconds))
    changed = late_retries.update(due_at=now)
    changed += late_new_rows.update(due_at=now)
    changed += long_leases.update(lease_owner="", lease_until=None)
    # Work left by a worker that died after another process had settled the row.
    work.filter(due_at=None, refused_at=None, lease_until__lte=now).delete()
    return changed


def restore_lost(kind: Kind) -> int:
    """Makes due the rows that are not in sync and have no work, for example because one of the two
    tables was restored from a backup. Returns how many."""
    return kind.lost().make_due()
