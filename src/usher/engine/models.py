"""The base of every row that the engine keeps right."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models, transaction
from django.db.models import F, Max, Q
from django.db.models.expressions import Col
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor
from django.db.models.functions import Now
from django.utils import timezone

from usher.engine import work as works
from usher.engine.clock import database_now, moment
from usher.engine.lanes import Lane, by_lane, current_lane
from usher.engine.notify import notify_workers
from usher.engine.work import ROWS, Work


class ReconciledQuerySet(models.QuerySet[Any]):
    """The questions and changes that all kinds of rows share. Columns of the work are asked for as
    ``work__due_at`` and so on; rows without work have null there."""

    def due(self, now: Any = None) -> Self:
        """Rows to work on now: their moment has come and nobody holds them. now: a moment or an
        expression of one; by default that of the database when it is asked."""
        now = now or moment()
        return self.filter(
            Q(work__lease_until__isnull=True) | Q(work__lease_until__lte=now),
            work__due_at__lte=now,
        )

    def unsettled(self) -> Self:
        """Rows whose other side isn't known to be as wanted, refused ones included."""
        return self.exclude(observed_generation=F("generation"))

    def parked(self) -> Self:
        return self.filter(work__parked_at__isnull=False)

    def unclaimed(self) -> Self:
        return self.filter(Q(work__lease_owner="") | Q(work__id__isnull=True))

    def not_parked(self) -> Self:
        return self.filter(work__parked_at__isnull=True)

    def without_work(self) -> Self:
        return self.filter(work__id__isnull=True)

    def failing(self) -> Self:
        """Rows whose last attempt failed."""
        return self.filter(work__error_code__gt="")

    def make_due(self, now: datetime | None = None, *, lane: Lane = Lane.BACKGROUND) -> int:
        """Makes the rows due at once, refused ones too: the retry button. Returns how many.

        A row that waits already stays in its lane when that is the better one.
        """
        now = now or database_now()
        return self._in_order(lambda ids: works.make_due(self.kind, ids, now, lane))

    def make_due_after(self, rows: Iterable[Any], now: datetime | None = None) -> None:
        """Makes due the rows of the same users, each in the lane of the row it follows from."""
        for lane, user_ids in by_lane(rows).items():
            self.filter(user_id__in=user_ids).make_due(now, lane=lane)

    def recheck(self, now: datetime | None = None) -> int:
        """Makes rows due because the other system may have changed; returns how many.

        Unlike ``make_due``, attempts and errors stay. A refused row is compared with the
        other system, and not sent again. A row that a worker has claimed is due again afterwards:
        the worker may have asked the other system before this change.
        """
        now = now or database_now()
        return self._in_order(lambda ids: works.recheck(self.kind, ids, now, Lane.BACKGROUND))

    def forget_work(self) -> None:
        """Nothing is to be done about these rows, and nothing is known against them. What a worker
        has claimed stays claimed."""
        works.forget(self.kind, self.values_list("pk", flat=True))

    def set_work(self, **values: Any) -> int:
        """Sets columns of these rows' work; returns how many. For repairs and tests: it asks for
        no lease."""
        ids = list(self.values_list("pk", flat=True))
        works.put(self.kind, ids, **values)
        return len(ids)

    def bulk_create(self, objs: Iterable[Any], *args: Any, **options: Any) -> list[Any]:
        """With the work of each; rows that are ignored because they conflict get none."""
        objs = list(objs)
        with transaction.atomic(using=self.db, savepoint=False):
            if not options.get("ignore_conflicts"):
                made: list[Any] = super().bulk_create(objs, *args, **options)
                works.create(self.kind, [each.work_of_new() for each in made])
                return made
            everybody = self.model._default_manager.all()
            due = [each.work_to_be() for each in objs if each.work_to_be().due_at]
            last = (everybody.aggregate(last=Max("pk"))["last"] or 0) if due else 0
            made = super().bulk_create(objs, *args, **options)
            if due:
                # The database doesn't tell which were made: those with new ids.
                lane = Lane(min(each.lane for each in due))
                everybody.filter(pk__gt=last).without_work().make_due(lane=lane)
        return made

    @property
    def kind(self) -> str:
        found: str = self.model.work_kind
        return found

    def _in_order(self, change: Any) -> int:
        """By ascending id, as everybody does: so nobody waits in a circle."""
        ids = sorted(self.values_list("pk", flat=True))
        changed = 0
        for start in range(0, len(ids), ROWS):
            with transaction.atomic():
                changed += change(ids[start : start + ROWS])
        return changed


#: Rows that the other system has as wanted, and whose last attempt did not fail.
IN_SYNC = Q(observed_generation=F("generation")) & ~Q(work__error_code__gt="")


def lock(rows: models.QuerySet[Any]) -> None:
    """Locks these rows for the transaction, by ascending id."""
    list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))


class _WorkDescriptor(ForwardManyToOneDescriptor):
    """None for a row without work."""

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
    """The row's work, which is found by the kind and the row's id: no column of the row."""

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

    def get_extra_restriction(self, alias: Any, related_alias: Any) -> Any:
        field: Any = Work._meta.get_field("kind")
        kind = getattr(self.model, "work_kind", "")
        return field.get_lookup("exact")(Col(alias, field), kind)

    def get_extra_descriptor_filter(self, instance: Any) -> Any:
        return {"kind": instance.work_kind}


_NOTHING = Work()


def _of_work(column: str) -> property:
    def get(self: Any) -> Any:
        return getattr(self.work or _NOTHING, column)

    def put(self: Any, value: Any) -> None:
        if not self._state.adding:
            raise AttributeError(f"{column} is written by the engine: use make_due() or want()")
        setattr(self.work_to_be(), column, value)

    return property(get, put)


class Reconciled(models.Model):
    """What is wanted and what the other system was last seen to have, in one row.

    A change of what is wanted raises ``generation``; the engine sets ``observed_generation`` to
    the generation that the other system has. ``wanted_at`` is when what is wanted changed last.
    ``work`` is what is to be done about the row, None for nothing; a new row is due. Its columns
    can be read of the row, too.
    """

    #: The name of its kind.
    work_kind: ClassVar[str]

    generation = models.PositiveIntegerField(default=1, editable=False)
    observed_generation = models.PositiveIntegerField(default=0, editable=False)
    wanted_at = models.DateTimeField(db_default=Now(), editable=False)
    observed_at = models.DateTimeField(null=True, blank=True, editable=False)
    work = WorkOf()

    next_attempt_at = _of_work("due_at")
    lane = _of_work("lane")
    attempts = _of_work("attempts")
    lease_owner = _of_work("lease_owner")
    lease_until = _of_work("lease_until")
    error_class = _of_work("error_class")
    error_code = _of_work("error_code")
    error_message = _of_work("error_message")
    parked_at = _of_work("parked_at")

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
        if not self._state.adding:
            super().save(*args, **options)
            return
        with transaction.atomic(savepoint=False):
            super().save(*args, **options)
            works.create(self.work_kind, [self.work_of_new()])

    def refresh_from_db(self, *args: Any, **options: Any) -> None:
        self.forget_cached_work()
        super().refresh_from_db(*args, **options)

    @property
    def is_settled(self) -> bool:
        """Whether the other system has what is wanted now."""
        return self.observed_generation == self.generation

    def with_work(self, **values: Any) -> Self:
        """A new row that is saved with these columns of its work."""
        for name, value in values.items():
            setattr(self.work_to_be(), name, value)
        return self

    def without_work(self) -> Self:
        """A new row about which nothing is to be done."""
        return self.with_work(due_at=None)

    def work_to_be(self) -> Work:
        """The work with which a new row will be saved."""
        found: Work | None = self.__dict__.get("_work_to_be")
        if found is None:
            # The database says when, once the row is saved: this moment stands for it until then.
            found = Work(kind=self.work_kind, due_at=timezone.now())
            self.__dict__["_due_by_default"] = found.due_at
            self.__dict__["_work_to_be"] = found
        return found

    def work_of_new(self) -> Work:
        """The work of a row that was just saved."""
        found = self.work_to_be()
        found.object_id = self.pk
        if found.due_at is not None and found.due_at is self.__dict__.pop("_due_by_default", None):
            found.due_at = moment()
        self.forget_cached_work()
        return found

    def forget_cached_work(self) -> None:
        self.__dict__.pop("_work_to_be", None)
        self._state.fields_cache.pop("work", None)

    def want(self, at: datetime | None = None, **changes: Any) -> bool:
        """Changes what is wanted and saves it; True when that differs from what was wanted.

        The caller holds the row (``select_for_update``) or owns it. at: the moment of the
        database, where it is known already.
        """
        changed = {k: v for k, v in changes.items() if getattr(self, k) != v}
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
    """Up to when this side has asked the other one what changed there; and when workers were alive.

    what: was asked for; since: the other side's own word for when.
    """

    what = models.CharField(max_length=32, unique=True)
    since = models.CharField(max_length=64)
    asked_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.what} since {self.since}"


class OutstandingMessage(models.Model):
    """A message to the workers that was sent, and is not worked off before ``until``."""

    name = models.CharField(max_length=40, unique=True)
    until = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
