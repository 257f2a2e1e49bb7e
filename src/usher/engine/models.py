"""The base of every row that the engine keeps right."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Self

from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Least, Now

from usher.contract.failures import FailureClass
from usher.engine.clock import database_now, moment
from usher.engine.lanes import Lane, by_lane, current_lane
from usher.engine.notify import notify_workers

#: Changed by one statement.
_ROWS = 5000


class ReconciledQuerySet(models.QuerySet[Any]):
    """The questions and changes that all kinds of rows share."""

    def due(self, now: Any = None) -> Self:
        """Rows to work on now: their moment has come and nobody holds them. now: a moment or an
        expression of one; by default that of the database when it is asked."""
        now = now or moment()
        return self.filter(
            Q(lease_until__isnull=True) | Q(lease_until__lte=now), next_attempt_at__lte=now
        )

    def unsettled(self) -> Self:
        """Rows whose other side isn't known to be as wanted, parked ones included."""
        return self.exclude(observed_generation=F("generation"))

    def parked(self) -> Self:
        return self.filter(parked_at__isnull=False)

    def make_due(self, now: datetime | None = None, *, lane: Lane = Lane.BACKGROUND) -> int:
        """Makes the rows due at once, refused ones too: the retry button. Returns how many.

        A row that waits already stays in its lane when that is the better one.
        """
        return self._update_in_order(due_now(now) | {"lane": _better_of(lane)})

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
        values = {"next_attempt_at": now, "lane": _better_of(Lane.BACKGROUND)}
        waits = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__gt=now)
        return self.filter(waits | Q(lease_until__gt=now))._update_in_order(values)

    def _update_in_order(self, values: dict[str, Any]) -> int:
        """Locks the rows by ascending id, as everybody does: so nobody waits in a circle."""
        ids = sorted(self.values_list("pk", flat=True))
        changed = 0
        for start in range(0, len(ids), _ROWS):
            rows = self.model._default_manager.filter(pk__in=ids[start : start + _ROWS])
            with transaction.atomic():
                if len(ids) > 1:
                    lock(rows)
                changed += rows.update(**values)
        return changed


def lock(rows: models.QuerySet[Any]) -> None:
    """Locks these rows for the transaction, by ascending id."""
    list(rows.select_for_update().order_by("pk").values_list("pk", flat=True))


def _better_of(lane: Lane) -> Any:
    """``lane``, or the one in which a row waits already when that is claimed earlier."""
    waits = When(next_attempt_at__isnull=False, then=Least(F("lane"), Value(int(lane))))
    return Case(waits, default=Value(int(lane)))


def due_now(now: datetime | None = None) -> dict[str, Any]:
    """The values of a row that starts afresh: due now, no attempts, not parked."""
    return {
        "next_attempt_at": now or database_now(),
        "attempts": 0,
        "parked_at": None,
        "error_class": "",
        "error_code": "",
        "error_message": "",
    }


class Reconciled(models.Model):
    """What is wanted and what the other system was last seen to have, in one row.

    A change of what is wanted raises ``generation``; the engine sets ``observed_generation`` to
    the generation that the other system has. ``next_attempt_at`` null means that nothing is to be
    done. ``lease_owner`` is new with every claim: a worker that lost its lease can't write.
    ``wanted_at`` is when what is wanted changed last.
    ``lane`` says which rows are claimed first.
    """

    generation = models.PositiveIntegerField(default=1, editable=False)
    observed_generation = models.PositiveIntegerField(default=0, editable=False)
    wanted_at = models.DateTimeField(db_default=Now(), editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    next_attempt_at = models.DateTimeField(null=True, blank=True, default=database_now)
    lane = models.SmallIntegerField(
        choices=Lane.choices,
        default=Lane.BACKGROUND,
        db_default=Lane.BACKGROUND,
        editable=False,
    )
    lease_owner = models.CharField(max_length=36, blank=True, default="", editable=False)
    lease_until = models.DateTimeField(null=True, blank=True, editable=False)
    error_class = models.CharField(
        max_length=12, blank=True, default="", choices=[(c, c) for c in FailureClass]
    )
    error_code = models.CharField(max_length=64, blank=True, default="")
    error_message = models.CharField(max_length=500, blank=True, default="")
    parked_at = models.DateTimeField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ReconciledQuerySet.as_manager()

    class Meta:
        abstract = True
        indexes = [
            models.Index(
                fields=["lane", "next_attempt_at", "id"],
                name="%(class)s_queue",
                condition=Q(next_attempt_at__isnull=False),
            ),
            # Counts refusals by their codes, and pages through those of one, from the index alone.
            models.Index(
                fields=["error_code", "parked_at", "id"],
                name="%(class)s_refused",
                condition=Q(parked_at__isnull=False),
            ),
            models.Index(
                fields=["lease_until"],
                name="%(class)s_leased",
                condition=Q(lease_until__isnull=False),
            ),
        ]

    @property
    def is_settled(self) -> bool:
        """Whether the other system has what is wanted now."""
        return self.observed_generation == self.generation

    def want(self, **changes: Any) -> bool:
        """Changes what is wanted and saves it; True when that differs from what was wanted.

        The caller holds the row (``select_for_update``) or owns it.
        """
        changed = {k: v for k, v in changes.items() if getattr(self, k) != v}
        if not changed:
            return False
        now = database_now()
        values = changed | due_now(now) | {"wanted_at": now, "lane": self._lane_after_change()}
        for name, value in values.items():
            setattr(self, name, value)
        self.generation += 1
        self.save(update_fields=[*values, "generation"])
        notify_workers(getattr(self, "user_id", None))
        return True

    def _lane_after_change(self) -> int:
        lane = int(current_lane())
        return lane if self.next_attempt_at is None else min(lane, self.lane)


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
