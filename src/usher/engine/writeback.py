"""Writes the outcomes of many rows at once, of those whose lease still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from usher.engine import observers
from usher.engine.clock import database_now, moment
from usher.engine.kinds import Job, Kind, Outcome
from usher.engine.lanes import Lane
from usher.engine.policy import EARLY_ATTEMPTS, WAITING_DELAY, retry
from usher.engine.rows import columns
from usher.engine.transactions import retried
from usher.engine.work import FRESH, Work

Done = tuple[Job, Outcome]


def write_back(kind: Kind, done: Sequence[Done]) -> list[Done]:
    """What was written: outcomes of rows whose lease was lost meanwhile are dropped.

    Somebody else has, or had, those rows. What this worker sent may have arrived after what they
    sent, as when it stood still between the two: so the rows are looked at once more.
    """
    in_order = sorted(done, key=lambda each: each[0].row.pk)
    owned = retried(lambda: _written(kind, in_order))
    observers.written(kind.name, owned)
    return owned


def _written(kind: Kind, done: Sequence[Done]) -> list[Done]:
    """Rows and their work are locked kind by kind, and by ascending id within one."""
    kind.settle_before(done)
    held, now = _held(kind, done)
    owned = [(job, outcome) for job, outcome in done if job.row.pk in held]
    _look_again(kind, [d for d in done if d[0].row.pk not in held], now)
    good = [d for d in owned if d[1].error is None]
    _write_observed(kind, good, now)
    _write_work(kind, [(d, held[d[0].row.pk]) for d in owned], now)
    kind.settle(owned, now)
    observers.writing(kind, owned)
    return owned


def _look_again(kind: Kind, lost: Sequence[Done], now: datetime) -> None:
    if not lost:
        return
    rows = kind.model._default_manager.filter(pk__in=[job.row.pk for job, _ in lost])
    rows.make_due(now)
    there = set(rows.values_list("pk", flat=True))
    kind.settle_deleted([d for d in lost if d[0].row.pk not in there])


@dataclass(frozen=True)
class _Held:
    """A row and its work as they are now, both locked."""

    generation: int
    work_id: int
    lane: int
    due_at: datetime | None
    parked_at: datetime | None

    def is_as_claimed(self, job: Job) -> bool:
        """Otherwise the wanted side changed while the row was worked on, or it became due
        meanwhile: then it stays due, so that nothing is lost."""
        return self.generation == job.generation and self.due_at == job.row.next_attempt_at


def _held(kind: Kind, done: Sequence[Done]) -> tuple[dict[int, _Held], datetime]:
    """Id → the row, of those whose lease holds; and the moment of the database."""
    owners = {job.row.pk: job.row.lease_owner for job, _ in done}
    # By the ids of the work: asked for the rows' own, PostgreSQL compares each with each.
    ids = [job.row.work.pk for job, _ in done]
    leased = kind.rows().filter(work__pk__in=ids, work__lease_owner__in=set(owners.values()))
    columns = ("generation", "work__id", "work__lane", "work__due_at", "work__parked_at")
    locked = leased.select_for_update().order_by("pk").annotate(now=moment())
    rows = list(locked.values_list("pk", "work__lease_owner", "now", *columns))
    now = rows[0][2] if rows else database_now()
    return {pk: _Held(*rest) for pk, owner, _, *rest in rows if owners[pk] == owner}, now


def _write_observed(kind: Kind, good: Sequence[Done], now: datetime) -> None:
    """One prepared statement for all rows."""
    if not good:
        return
    fields = columns(kind.model, (*kind.observed_fields, "observed_generation", "observed_at"))
    rows = []
    for job, outcome in good:
        row = job.row
        if row.observed_generation != job.generation:
            job.settled_after = (now - row.wanted_at).total_seconds()
        own = [outcome.values.get(name, getattr(row, name)) for name in kind.observed_fields]
        rows.append((row.pk, [*own, job.generation, now]))
    _update_many(kind.model, fields, rows)


def _write_work(kind: Kind, owned: Sequence[tuple[Done, _Held]], now: datetime) -> None:
    """Work that is done goes; the rest is due again, or is kept as refused."""
    over, left = [], []
    for done, held in owned:
        values = _after(done, held, now)
        if values["due_at"] is None and values["parked_at"] is None:
            over.append(held.work_id)
        else:
            left.append((held.work_id, list(values.values())))
    if over:
        Work.objects.filter(pk__in=over).delete()
    if left:
        _update_many(Work, columns(Work, _WORK), left)


_WORK = (
    "attempts",
    "error_class",
    "error_code",
    "error_message",
    "due_at",
    "lane",
    "parked_at",
    "lease_until",
    "lease_owner",
)


def _after(done: Done, held: _Held, now: datetime) -> dict[str, Any]:
    job, outcome = done
    values = _success(job, outcome, now) if outcome.error is None else _failure(job, outcome, now)
    if not held.is_as_claimed(job):
        values |= {"due_at": held.due_at, "lane": held.lane, "parked_at": held.parked_at}
    values |= {"lease_until": None, "lease_owner": ""}
    return {name: values[name] for name in _WORK}


def _success(job: Job, outcome: Outcome, now: datetime) -> dict[str, Any]:
    again = None if outcome.next_in is None else now + timedelta(seconds=outcome.next_in)
    return FRESH | {"due_at": again, "lane": job.row.lane}


def _failure(job: Job, outcome: Outcome, now: datetime) -> dict[str, Any]:
    error, row = outcome.error, job.row
    if error is None:
        raise ValueError("a failure without an error")
    attempts = row.attempts
    parked: datetime | None = None
    again: datetime | None
    if outcome.waits:
        again = now + timedelta(seconds=WAITING_DELAY)
    else:
        plan = retry(error, row.attempts)
        attempts += plan.counts
        parked = now if plan.delay is None else None
        again = None if plan.delay is None else now + timedelta(seconds=plan.delay)
    return {
        "attempts": attempts,
        "error_class": str(error.failure_class),
        "error_code": error.code[:64],
        "error_message": error.message[:500],
        "due_at": again,
        "lane": row.lane if again and attempts < EARLY_ATTEMPTS else _later(row.lane),
        "parked_at": parked,
    }


def _later(lane: int) -> int:
    """The lane of a row that fails again and again: nobody sits in front of it any more."""
    return max(lane, int(Lane.BACKGROUND))


def _update_many(
    model: type[Any], fields: Sequence[Any], rows: Sequence[tuple[int, list[Any]]]
) -> None:
    """Id and values of each row, by one prepared statement."""
    quote = connection.ops.quote_name
    sets = ", ".join(f"{quote(each.column)} = %s" for each in fields)
    sql = f"UPDATE {quote(model._meta.db_table)} SET {sets} WHERE id = %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(sql, [[*_saved(fields, values), pk] for pk, values in rows])


def _saved(fields: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    return [f.get_db_prep_save(v, connection) for f, v in zip(fields, values, strict=True)]
