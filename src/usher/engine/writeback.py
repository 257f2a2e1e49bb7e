"""Writes the outcomes of many rows at once, of those whose lease still holds."""

from __future__ import annotations

from collections.abc import Sequence
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

Done = tuple[Job, Outcome]
#: Written only when the row is as it was claimed: a row whose wanted side changed while it was
#: worked on, or that became due meanwhile, stays due, so that nothing is lost.
_CONDITIONAL = ("next_attempt_at", "lane", "parked_at")
_COMMON = (
    "observed_generation",
    "attempts",
    "next_attempt_at",
    "lane",
    "error_class",
    "error_code",
    "error_message",
    "parked_at",
    "observed_at",
    "lease_until",
)


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
    """Rows are locked kind by kind in their order, and by ascending id within one."""
    kind.settle_before(done)
    leased, now = _still_leased(kind, done)
    owned = [(job, outcome) for job, outcome in done if job.row.pk in leased]
    _look_again(kind, [d for d in done if d[0].row.pk not in leased], now)
    good = [d for d in owned if d[1].error is None]
    _update(kind, kind.observed_fields, [_success(kind, d, now) for d in good])
    _update(kind, (), [_failure(d, now) for d in owned if d[1].error is not None])
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


def _still_leased(kind: Kind, done: Sequence[Done]) -> tuple[set[int], datetime]:
    """Ids of rows whose lease holds, locked; and the moment of the database."""
    owners = {job.row.lease_owner for job, _ in done}
    ids = [job.row.pk for job, _ in done]
    held = kind.model._default_manager.filter(pk__in=ids, lease_owner__in=owners)
    locked = held.select_for_update().order_by("pk").annotate(now=moment())
    rows = list(locked.values_list("pk", "lease_owner", "now"))
    found = {pk: owner for pk, owner, _ in rows}
    now = rows[0][2] if rows else database_now()
    return {job.row.pk for job, _ in done if found.get(job.row.pk) == job.row.lease_owner}, now


def _success(kind: Kind, done: Done, now: datetime) -> tuple[list[Any], Job]:
    job, outcome = done
    if job.row.observed_generation != job.generation:
        job.settled_after = (now - job.row.wanted_at).total_seconds()
    again = None if outcome.next_in is None else now + timedelta(seconds=outcome.next_in)
    own = [outcome.values.get(name, getattr(job.row, name)) for name in kind.observed_fields]
    lane = Lane.BACKGROUND if again is None else job.row.lane
    return [*own, job.generation, 0, again, lane, "", "", "", None, now, None], job


def _failure(done: Done, now: datetime) -> tuple[list[Any], Job]:
    job, outcome = done
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
    return [
        row.observed_generation,
        attempts,
        again,
        job.row.lane if again and attempts < EARLY_ATTEMPTS else _later(job.row.lane),
        str(error.failure_class),
        error.code[:64],
        error.message[:500],
        parked,
        row.observed_at,
        None,
    ], job


def _later(lane: int) -> int:
    """The lane of a row that fails again and again: nobody sits in front of it any more."""
    return max(lane, int(Lane.BACKGROUND))


def _update(kind: Kind, own: Sequence[str], rows: Sequence[tuple[list[Any], Job]]) -> None:
    """One prepared statement for all rows."""
    if not rows:
        return
    meta, quote = kind.model._meta, connection.ops.quote_name
    fields = columns(kind.model, (*own, *_COMMON))
    sets = []
    for each in fields:
        column = quote(each.column)
        if each.name in _CONDITIONAL:
            sets.append(
                f"{column} = CASE WHEN generation = %s AND next_attempt_at = %s "
                f"THEN %s ELSE {column} END"
            )
        else:
            sets.append(f"{column} = %s")
    sql = (
        f"UPDATE {quote(meta.db_table)} SET {', '.join(sets)}, lease_owner = '' "  # noqa: S608
        "WHERE id = %s AND lease_owner = %s"
    )
    with connection.cursor() as cursor:
        cursor.executemany(sql, [_parameters(fields, values, job) for values, job in rows])


def _parameters(fields: Sequence[Any], values: Sequence[Any], job: Job) -> list[Any]:
    found: list[Any] = []
    due_at = job.row._meta.get_field("next_attempt_at")
    for each, value in zip(fields, values, strict=True):
        if each.name in _CONDITIONAL:
            found += [job.generation, due_at.get_db_prep_save(job.row.next_attempt_at, connection)]
        found.append(each.get_db_prep_save(value, connection))
    return [*found, job.row.pk, job.row.lease_owner]
