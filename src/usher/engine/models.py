"""The base model of rows that are reconciled, and the engine's own tables."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any, ClassVar, Self

from django.core.exceptions import ObjectDoesNotExist
from django.db import models, transaction
from django.db.models import F, Max, Q
from django.db.models.expressions import Col, DatabaseDefault
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.db.models.functions import Now
from django.utils import timezone

from usher.engine import work as works
from usher.engine.clock import database_now, moment
from usher.engine.lanes import Lane, current_lane, user_ids_by_lane
from usher.engine.notify import notify_workers
from usher.engine.work import ROWS_A_TRANSACTION, Work


class ReconciledQuerySet(models.QuerySet[Any]):
    """Queries and changes that all kinds of rows share.

    Columns of the work are looked up as ``work__due_at`` and so on; these columns are null for rows
    without work.
    """

    def due(self, now: Any = None) -> Self:
        """Rows that may be claimed: due, and not claimed by a worker. now: a datetime or an
        expression; by default the database's time when the query runs."""
        now = now or moment()
        return self.filter(
            Q(work__lease_until__isnull=True) | Q(work__lease_until__lte=now),
            work__due_at__lte=now,
        )

    def unsettled(self) -> Self:
        """Rows for which the other system does not have the desired state, refused rows
        included."""
        return self.exclude(observed_generation=F("generation"))

    def refused(self) -> Self:
        """Refused rows: the other system rejected them, so they are not tried again."""
        return self.filter(work__refused_at__isnull=False)

    def unclaimed(self) -> Self:
        """Rows that no worker has claimed."""
        return self.filter(Q(work__lease_owner="") | Q(work__id__isnull=True))

    def not_refused(self) -> Self:
        """Rows that were not refused."""
        return self.filter(work__refused_at__isnull=True)

    def without_work(self) -> Self:
        """Rows that have no row in the table of work."""
        return self.filter(work__id__isnull=True)

    def failing(self) -> Self:
        """Rows whose last attempt failed."""
        return self.filter(work__error_code__gt="")

    def make_due(self, now: datetime | None = None, *, lane: Lane = Lane.BACKGROUND) -> int:
        """Makes the rows due immediately, refused ones too, and clears their errors, as the retry
        button does. Returns how many.

        A row that is already waiting stays in its lane if its lane is claimed before ``lane``.
        """
        now = now or database_now()
        return self._change_in_id_order(lambda ids: works.make_due(self.kind, ids, now, lane))

    def make_due_after(self, rows: Iterable[Any], now: datetime | None = None) -> None:
        """Makes due the rows of all users to whom ``rows`` belong, in the lane of the user's row in
        ``rows``."""
        for lane, user_ids in user_ids_by_lane(rows).items():
            self.filter(user_id__in=user_ids).make_due(now, lane=lane)

    def compare_again(self, now: datetime | None = None) -> int:
        """Makes rows due because the other system may have changed. Returns how many.

        Unlike ``make_due`` it keeps attempts and errors. A refused row is only compared with the
        other system, and not sent again. A row that a worker has claimed becomes due once more when
        that worker has written its outcome, because the worker may have read the other system
        before this change.
        """
        now = now or database_now()
        return self._change_in_id_order(
            lambda ids: works.compare_again(self.kind, ids, now, Lane.BACKGROUND)
        )

    def forget_work(self) -> None:
        """Deletes the work of these rows and clears their errors. Rows that a worker has claimed
        keep their lease."""
        works.forget(self.kind, self.values_list("pk", flat=True))

    def set_work(self, **values: Any) -> int:
        """Sets columns of these rows' work, even of rows that a worker has claimed. Returns how
        many rows."""
        ids = list(self.values_list("pk", flat=True))
        works.set_columns(self.kind, ids, **values)
        return len(ids)

    def bulk_create(self, objs: Iterable[Any], *args: Any, **options: Any) -> list[Any]:
        """Like Django's ``bulk_create``, and saves the work of each row. With ``ignore_conflicts``,
        rows that conflicted get no work; if any of ``objs`` should be due, all new rows become due
        now, in the lane of the most urgent one."""
        objs = list(objs)
        # PostgreSQL inserts plain values much faster than expressions such as ``Now()``.
        now = database_now() if objs else None
        for obj in objs:
            if isinstance(obj.wanted_at, DatabaseDefault):
                obj.wanted_at = now
        with transaction.atomic(using=self.db, savepoint=False):
            if not options.get("ignore_conflicts"):
                new_rows: list[Any] = super().bulk_create(objs, *args, **options)
                works.create([row.work_of_new(now) for row in new_rows])
                return new_rows
            all_rows = self.model._default_manager.all()
            due_work = [obj.work_to_be() for obj in objs if obj.work_to_be().due_at]
            last_id = (all_rows.aggregate(last_id=Max("pk"))["last_id"] or 0) if due_work else 0
            new_rows = super().bulk_create(objs, *args, **options)
            if due_work:
                # The database does not return which rows were inserted. They are found by their new
                # ids.
                lane = Lane(min(work.lane for work in due_work))
                all_rows.filter(pk__gt=last_id).without_work().make_due(lane=lane)
        return new_rows

    @property
    def kind(self) -> str:
        """The name of the rows' kind."""
        kind: str = self.model.work_kind
        return kind

    def _change_in_id_order(self, change: Any) -> int:
        """Calls ``change`` with the rows' ids in ascending order, the order in which all code locks
        rows, so that there are no deadlocks. Returns the sum of the results."""
        ids = sorted(self.values_list("pk", flat=True))
        changed = 0
        for start in range(0, len(ids), ROWS_A_TRANSACTION):
            with transaction.atomic():
                changed += change(ids[start : start + ROWS_A_TRANSACTION])
        return changed


#: Rows in sync: the other system has the desired state, and the last attempt did not fail.
IN_SYNC = Q(observed_generation=F("generation")) & ~Q(work__error_code__gt="")


def lock(rows: models.QuerySet[Any]) -> None:
    """Locks these rows for the transaction, by ascending id."""
    # ``list`` runs the query, which sets the locks.
    list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))


def refresh_unless_deleted(row: models.Model) -> None:
    """Reads the row from the database again. If the row was deleted there, the object keeps its
    values."""
    with suppress(ObjectDoesNotExist):
        row.refresh_from_db()


class _WorkDescriptor(ForwardManyToOneDescriptor):
    """Reads a row's work; None if the row has none. For a new row: ``work_to_be``, even after
    ``without_work``."""

    def __get__(self, instance: Any, cls: Any = None) -> Any:
        if instance is None:
            return self
        if instance._state.adding and not self.is_cached(instance):
            return instance.work_to_be()
        try:
            return super().__get__(instance, cls)
        except Work.DoesNotExist:
            self.field.set_cached_value(instance, None)
            return None


class WorkOf(models.ForeignObject):  # type: ignore[type-arg]
    """A relation to the row's work, by the name of the row's kind and the row's id. It needs no
    column of its own."""

    requires_unique_target = False
    db_constraint = False
    forward_related_accessor_class = _WorkDescriptor

    def __init__(self, **options: Any) -> None:
        options = {
            "to": "usher_engine.Work",
            "on_delete": models.DO_NOTHING,
            "from_fields": ["id"],
            "to_fields": ["object_id"],
            "null": True,
            "editable": False,
            "related_name": "+",
        } | options
        super().__init__(**options)

    # Django calls these two methods; they add the kind to the condition on the row's id.

    def get_extra_restriction(self, alias: Any, related_alias: Any) -> Any:
        field: Any = Work._meta.get_field("kind")
        kind = getattr(self.model, "work_kind", "")
        return field.get_lookup("exact")(Col(alias, field), kind)

    def get_extra_descriptor_filter(self, instance: Any) -> Any:
        return {"kind": instance.work_kind}


#: Its values are those of a row without work.
_NO_WORK = Work()


def _work_column(column: str) -> property:
    """A column of the row's work, readable on the row; writable only before it is first saved."""

    def get(self: Any) -> Any:
        return getattr(self.work or _NO_WORK, column)

    def set_on_new_row(self: Any, value: Any) -> None:
        if not self._state.adding:
            raise AttributeError(f"{column} is written by the engine: use make_due() or want()")
        setattr(self.work_to_be(), column, value)

    return property(get, set_on_new_row)


class Reconciled(models.Model):
    """A row with the desired state of an object and the state last seen in the other system.

    generation: raised by every change of the desired state. observed_generation: the generation
    that the other system has; equal to ``generation`` when it matches. wanted_at: when the desired
    state last changed. observed_at: when the other system was last seen to match. work: the row's
    ``Work``, or None. A new row is due. The columns of the work can be read on the row itself.
    """

    #: The name of the rows' kind.
    work_kind: ClassVar[str]

    generation = models.PositiveIntegerField(default=1, editable=False)
    observed_generation = models.PositiveIntegerField(default=0, editable=False)
    wanted_at = models.DateTimeField(db_default=Now(), editable=False)
    observed_at = models.DateTimeField(null=True, blank=True, editable=False)
    work = WorkOf()

    due_at = _work_column("due_at")
    lane = _work_column("lane")
    attempts = _work_column("attempts")
    lease_owner = _work_column("lease_owner")
    lease_until = _work_column("lease_until")
    error_class = _work_column("error_class")
    error_code = _work_column("error_code")
    error_message = _work_column("error_message")
    refused_at = _work_column("refused_at")

    objects = ReconciledQuerySet.as_manager()

    class Meta:
        abstract = True
        indexes = [
            # Finds rows that lost their work.
            models.Index(
                fields=["id"],
                name="%(class)s_unsettled",
                condition=~Q(observed_generation=F("generation")),
            ),
        ]

    def save(self, *args: Any, **options: Any) -> None:
        """As Django's; a new row is saved together with its work."""
        if not self._state.adding:
            super().save(*args, **options)
            return
        with transaction.atomic(savepoint=False):
            super().save(*args, **options)
            works.create([self.work_of_new(moment())])

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        """As Django's, and forgets the row's work, which is read again when it is needed."""
        self.forget_cached_work()
        super().refresh_from_db(*args, **options)

    @property
    def is_settled(self) -> bool:
        """Whether the other system has the desired state."""
        return self.observed_generation == self.generation

    def with_work(self, **values: Any) -> Self:
        """For a new row: sets columns of the work with which it will be saved."""
        for name, value in values.items():
            setattr(self.work_to_be(), name, value)
        return self

    def without_work(self) -> Self:
        """For a new row: it will be saved without work, so that no worker claims it. Returns the
        row."""
        return self.with_work(due_at=None)

    def work_to_be(self) -> Work:
        """The work with which a new row will be saved."""
        work: Work | None = self.__dict__.get("_work_to_be")
        if work is None:
            # Replaced by the database's time when the row is saved.
            work = Work(kind=self.work_kind, due_at=timezone.now())
            # ``work_of_new`` compares it with ``due_at``, which the caller may have set.
            self.__dict__["_due_by_default"] = work.due_at
            self.__dict__["_work_to_be"] = work
        return work

    def work_of_new(self, now: Any) -> Work:
        """The work to save for a row that was just saved for the first time. now: the database's
        time, or an expression for it."""
        work = self.work_to_be()
        work.object_id = self.pk
        # The very object that ``work_to_be`` made: nobody has set another time.
        if work.due_at is not None and work.due_at is self.__dict__.pop("_due_by_default", None):
            work.due_at = now
        self.forget_cached_work()
        return work

    def forget_cached_work(self) -> None:
        """Makes the next access to ``work`` read it from the database."""
        self.__dict__.pop("_work_to_be", None)
        self._state.fields_cache.pop("work", None)

    def want(self, at: datetime | None = None, **changes: Any) -> bool:
        """Changes the desired state, makes the row due, saves it and notifies the workers. Returns
        False, and saves nothing, if the desired state is already so.

        The caller has locked the row (``select_for_update``) or has just created it. at: the
        database's time, if the caller knows it already.
        """
        changed = {name: value for name, value in changes.items() if getattr(self, name) != value}
        if not changed:
            return False
        now = at or database_now()
        for name, value in changed.items():
            setattr(self, name, value)
        self.wanted_at = now
        self.generation += 1
        self.save(update_fields=[*changed, "wanted_at", "generation"])
        works.make_due(self.work_kind, [self.pk], now, current_lane())
        self.forget_cached_work()
        notify_workers(getattr(self, "user_id", None))
        return True


class Watermark(models.Model):
    """How far a list of the other system's changes has been read, or when regular work was last
    done.

    name: the list of changes, or the regular work: ``worker`` or ``sweep`` (see ``heartbeat``).
    since: the cursor that the other system gave for the next request; for ``worker``, the seconds
    after which a beat is late. asked_at: when the list was last read or the work was last done.
    """

    name = models.CharField(max_length=32, unique=True, db_column="what")
    since = models.CharField(max_length=64)
    asked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name} since {self.since}"


class OutstandingMessage(models.Model):
    """A message that was sent to the workers and not yet processed. The message counts as lost
    after ``until``."""

    name = models.CharField(max_length=40, unique=True)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
