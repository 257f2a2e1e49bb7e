"""What is to be done, and what was refused: one table for all kinds of rows.

A row that is as wanted, and that nothing is to be done about, has no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Q

from usher.contract.failures import FailureClass
from usher.engine.lanes import Lane

#: In one transaction, and in one statement, of which SQLite takes some thousand parameters.
ROWS, _AT_ONCE = 5000, 500

#: Columns of a row's work that tell how it failed.
FRESH: dict[str, Any] = {
    "attempts": 0,
    "parked_at": None,
    "error_class": "",
    "error_code": "",
    "error_message": "",
}


#: The lane in which a row waits already, or a new one that is claimed earlier.
_BETTER_LANE = (
    "CASE WHEN work.due_at IS NOT NULL AND work.lane < EXCLUDED.lane "
    "THEN work.lane ELSE EXCLUDED.lane END"
)


class Work(models.Model):
    """For one row of a kind. due_at: null when nothing is to be done, as for a refused row, whose
    ``parked_at`` is since when. ``lease_owner`` is new with every claim: a worker that lost its
    lease can't write. ``lane`` says which work is claimed first."""

    kind = models.CharField(max_length=32)
    object_id = models.BigIntegerField()
    lane = models.SmallIntegerField(choices=Lane.choices, default=Lane.BACKGROUND)
    due_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0)
    lease_owner = models.CharField(max_length=36, default="")
    lease_until = models.DateTimeField(null=True)
    error_class = models.CharField(
        max_length=12, default="", choices=[(c, c) for c in FailureClass]
    )
    error_code = models.CharField(max_length=64, default="")
    error_message = models.CharField(max_length=500, default="")
    parked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "object_id"], name="one_work_a_row"),
        ]
        indexes = [
            models.Index(
                fields=["kind", "lane", "due_at", "object_id"],
                name="work_queue",
                condition=Q(due_at__isnull=False),
            ),
            # Counts refusals by their codes, and pages through those of one, from the index alone.
            models.Index(
                fields=["kind", "error_code", "parked_at", "object_id"],
                name="work_refused",
                condition=Q(parked_at__isnull=False),
            ),
            models.Index(
                fields=["kind", "lease_until"],
                name="work_leased",
                condition=Q(lease_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.object_id}"


def due(kind: str, now: Any) -> models.QuerySet[Work]:
    """Work of this kind that nobody has claimed."""
    return Work.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=now), kind=kind, due_at__lte=now
    )


def make_due(kind: str, ids: Sequence[int], now: datetime, lane: int) -> int:
    """Makes these rows due, refused ones too, and forgets how they failed. Work that waits already
    stays in its lane when that is claimed earlier. Returns how many."""
    return _written(
        kind,
        ids,
        {"lane": int(lane), "due_at": now, **FRESH},
        ", ".join(
            [
                f"lane = {_BETTER_LANE}",
                *(f"{name} = EXCLUDED.{name}" for name in ("due_at", *FRESH)),
            ]
        ),
    )


def recheck(kind: str, ids: Sequence[int], now: datetime, lane: int) -> int:
    """Makes these rows due and keeps how they failed. Those that are due already stay as they are,
    unless a worker has claimed them. Returns how many were changed."""
    return _written(
        kind,
        ids,
        {"lane": int(lane), "due_at": now, **FRESH},
        f"lane = {_BETTER_LANE}, due_at = EXCLUDED.due_at "
        "WHERE work.due_at IS NULL OR work.due_at > EXCLUDED.due_at "
        "OR work.lease_until > EXCLUDED.due_at",
    )


def create(kind: str, works: Iterable[Work]) -> None:
    """Work of rows that were just made."""
    Work.objects.bulk_create([each for each in works if _matters(each)], batch_size=500)


def put(kind: str, ids: Sequence[int], **values: Any) -> None:
    """Sets these columns for these rows, whatever they were; work that says nothing any more goes.
    It asks for no lease."""
    new = {name: _default(name) for name in ("lane", "due_at", "lease_until", *FRESH)} | values
    with transaction.atomic(savepoint=False):
        _written(kind, ids, new, ", ".join(f"{name} = EXCLUDED.{name}" for name in values))
        work = Work.objects.filter(kind=kind, object_id__in=ids)
        work.filter(due_at=None, parked_at=None, lease_until=None).delete()


def forget(kind: str, ids: Iterable[int]) -> None:
    """Nothing is to be done about these rows, and nothing is known against them. Where a worker
    has a lease it keeps it: nobody else begins before it has ended."""
    ids = list(ids)
    work = Work.objects.filter(kind=kind, object_id__in=ids)
    with transaction.atomic(savepoint=False):
        work.filter(lease_until__isnull=False).update(due_at=None, **FRESH)
        work.filter(lease_until__isnull=True).delete()


def leases_of(kind: str, ids: Iterable[int]) -> list[datetime | None]:
    """When the leases of these rows end, where they have work; it is locked for the transaction."""
    found = Work.objects.select_for_update().filter(kind=kind, object_id__in=list(ids))
    return list(found.order_by("object_id").values_list("lease_until", flat=True))


def delete(kind: str, ids: Iterable[int]) -> None:
    """Of rows that are gone."""
    Work.objects.filter(kind=kind, object_id__in=list(ids)).delete()


def _default(column: str) -> Any:
    return FRESH.get(column, Lane.BACKGROUND if column == "lane" else None)


def _matters(work: Work) -> bool:
    return any((work.due_at, work.parked_at, work.lease_until))


def _written(kind: str, ids: Sequence[int], values: dict[str, Any], update: str) -> int:
    """Inserts work with these values, or does ``update`` to what is there, by ascending id."""
    if not ids:
        return 0
    quote, meta = connection.ops.quote_name, Work._meta
    values = {"lease_owner": ""} | values
    fields = [meta.get_field(name) for name in values]
    saved = [
        f.get_db_prep_save(value, connection)  # type: ignore[union-attr]
        for f, value in zip(fields, values.values(), strict=True)
    ]
    names = ("kind", "object_id", *values)
    one = f"({', '.join(['%s'] * len(names))})"
    count = 0
    with connection.cursor() as cursor:
        for start in range(0, len(ids), _AT_ONCE):
            some = sorted(ids[start : start + _AT_ONCE])
            cursor.execute(
                f"INSERT INTO {quote(meta.db_table)} AS work "  # noqa: S608
                f"({', '.join(map(quote, names))}) VALUES {', '.join([one] * len(some))} "
                f"ON CONFLICT (kind, object_id) DO UPDATE SET {update}",
                [each for pk in some for each in (kind, pk, *saved)],
            )
            count += cursor.rowcount
    return count
