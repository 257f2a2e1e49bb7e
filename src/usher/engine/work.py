"""The queue: one table with the work of all kinds of rows, waiting, claimed or refused.

A row that is in sync and that need not be checked again has no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.db import connection, models, transaction
from django.db.models import Q

from usher.contract.failures import FailureClass
from usher.engine.lanes import Lane

#: Rows changed by one transaction.
ROWS_A_TRANSACTION = 5000
#: Rows changed by one statement: SQLite limits the number of a statement's parameters.
_ROWS_A_STATEMENT = 500

#: The columns that say how a row failed, with their values for a row that did not fail.
NO_FAILURE: dict[str, Any] = {
    "attempts": 0,
    "refused_at": None,
    "error_class": "",
    "error_code": "",
    "error_message": "",
}

#: SQL for the more urgent of two lanes: the lane in which the work already waits, and the new lane.
_MORE_URGENT_LANE = (
    "CASE WHEN work.due_at IS NOT NULL AND work.lane < EXCLUDED.lane "
    "THEN work.lane ELSE EXCLUDED.lane END"
)


class Work(models.Model):
    """What is to be done for one row of a kind, and how the last attempt ended.

    kind, object_id: the kind's name and the row's id. lane: which work is claimed first. due_at:
    when the row may be claimed; null for a row that is not to be tried, such as a refused one.
    attempts: failed attempts since the row was last made due. lease_owner, lease_until: which
    worker has claimed the row, and until when; each claim has a new owner, so a worker whose lease
    has ended cannot write. error_class, error_code, error_message: how the last attempt failed.
    refused_at: when the other system refused the row; null for a row that was not refused.
    """

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
    refused_at = models.DateTimeField(null=True)

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
            # Counts refused rows by code, and pages through the refused rows of one code, by an
            # index-only scan.
            models.Index(
                fields=["kind", "error_code", "refused_at", "object_id"],
                name="work_refused",
                condition=Q(refused_at__isnull=False),
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
    """Work of this kind that may be claimed. now: a datetime, or an expression such as
    ``clock.moment()``."""
    return Work.objects.filter(
        Q(lease_until__isnull=True) | Q(lease_until__lte=now), kind=kind, due_at__lte=now
    )


def make_due(kind: str, ids: Sequence[int], now: datetime, lane: int) -> int:
    """Makes these rows due, refused ones too, and clears their errors. Returns how many.

    Work that is already waiting stays in its lane if its lane is claimed before ``lane``.
    """
    return _insert_or_update(
        kind,
        ids,
        {"lane": int(lane), "due_at": now, **NO_FAILURE},
        ", ".join(
            [
                f"lane = {_MORE_URGENT_LANE}",
                *(f"{name} = EXCLUDED.{name}" for name in ("due_at", *NO_FAILURE)),
            ]
        ),
    )


def compare_again(kind: str, ids: Sequence[int], now: datetime, lane: int) -> int:
    """Makes these rows due and keeps their errors. Rows that are due already are not changed,
    unless a worker has claimed them. Returns how many rows were changed."""
    return _insert_or_update(
        kind,
        ids,
        {"lane": int(lane), "due_at": now, **NO_FAILURE},
        f"lane = {_MORE_URGENT_LANE}, due_at = EXCLUDED.due_at "
        "WHERE work.due_at IS NULL OR work.due_at > EXCLUDED.due_at "
        "OR work.lease_until > EXCLUDED.due_at",
    )


def create(works: Iterable[Work]) -> None:
    """Saves the work of rows that were just created. Leaves out work that is neither due nor
    refused nor leased."""
    Work.objects.bulk_create([work for work in works if _is_needed(work)], batch_size=500)


def set_columns(kind: str, ids: Sequence[int], **values: Any) -> None:
    """Sets these columns of these rows' work, even of rows that a worker has claimed. Creates work
    for rows that have none; deletes work that afterwards is neither due nor refused nor leased."""
    new_work = {
        "lane": Lane.BACKGROUND,
        "due_at": None,
        "lease_until": None,
        **NO_FAILURE,
    } | values
    with transaction.atomic(savepoint=False):
        _insert_or_update(
            kind, ids, new_work, ", ".join(f"{name} = EXCLUDED.{name}" for name in values)
        )
        work = Work.objects.filter(kind=kind, object_id__in=ids)
        work.filter(due_at=None, refused_at=None, lease_until=None).delete()


def forget(kind: str, ids: Iterable[int]) -> None:
    """Deletes the work of these rows and clears their errors. A row that a worker has claimed
    keeps its lease, so that no other worker can claim it before that lease ends."""
    ids = list(ids)
    work = Work.objects.filter(kind=kind, object_id__in=ids)
    with transaction.atomic(savepoint=False):
        work.filter(lease_until__isnull=False).update(due_at=None, **NO_FAILURE)
        work.filter(lease_until__isnull=True).delete()


def leases_of(kind: str, ids: Iterable[int]) -> list[datetime | None]:
    """When the leases of these rows end, by ascending id; None for rows that are not claimed. Rows
    without work are left out. Locks the work for the transaction."""
    works = Work.objects.select_for_update().filter(kind=kind, object_id__in=list(ids))
    return list(works.order_by("object_id").values_list("lease_until", flat=True))


def delete(kind: str, ids: Iterable[int]) -> None:
    """Deletes the work of rows that were deleted."""
    Work.objects.filter(kind=kind, object_id__in=list(ids)).delete()


def _is_needed(work: Work) -> bool:
    """Whether the work is due, refused or leased."""
    return any((work.due_at, work.refused_at, work.lease_until))


def _insert_or_update(kind: str, ids: Sequence[int], values: dict[str, Any], update: str) -> int:
    """Inserts work with these values, by ascending id; where work exists, runs ``update``, the SQL
    after ``DO UPDATE SET``. Returns how many rows were inserted or updated."""
    if not ids:
        return 0
    quote, meta = connection.ops.quote_name, Work._meta
    values = {"lease_owner": ""} | values  # the database has no default for this column
    fields = [meta.get_field(name) for name in values]
    database_values = [
        field.get_db_prep_save(value, connection)  # type: ignore[union-attr]
        for field, value in zip(fields, values.values(), strict=True)
    ]
    names = ("kind", "object_id", *values)
    row_placeholders = f"({', '.join(['%s'] * len(names))})"
    ids, changed = sorted(ids), 0
    with connection.cursor() as cursor:
        for start in range(0, len(ids), _ROWS_A_STATEMENT):
            batch = ids[start : start + _ROWS_A_STATEMENT]
            cursor.execute(
                f"INSERT INTO {quote(meta.db_table)} AS work "  # noqa: S608
                f"({', '.join(map(quote, names))}) "
                f"VALUES {', '.join([row_placeholders] * len(batch))} "
                f"ON CONFLICT (kind, object_id) DO UPDATE SET {update}",
                [parameter for pk in batch for parameter in (kind, pk, *database_values)],
            )
            changed += cursor.rowcount
    return changed
