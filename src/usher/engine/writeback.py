"""Writes the outcomes of many jobs in one transaction, for rows whose lease is still valid."""

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
from usher.engine.policy import EARLY_ATTEMPTS, WAITING_DELAY, retry_plan
from usher.engine.rows import columns
from usher.engine.transactions import retry_transaction
from usher.engine.work import NO_FAILURE, Work

Result = tuple[Job, Outcome]


def write_back(kind: Kind, results: Sequence[Result]) -> list[Result]:
    """Writes the outcomes and returns those that were written, by ascending id of their rows.

    The outcome of a row whose lease this worker has lost is dropped: another worker has claimed
    that row since. The requests of the two workers may have reached the other system in either
    order, so the row is made due once more.
    """
    in_order = sorted(results, key=lambda result: result[0].row.pk)
    written = retry_transaction(lambda: _write_in_transaction(kind, in_order))
    observers.written(kind.name, written)
    return written


def _write_in_transaction(kind: Kind, results: Sequence[Result]) -> list[Result]:
    """Writes the outcomes of rows whose lease this worker still has; returns only these results.

    Called in a transaction. Locks rows in the order of the kinds and by ascending id within a kind,
    so that two workers cannot deadlock."""
    kind.settle_earlier_kinds(results)
    locked, now = _lock_leased(kind, results)
    owned = [(job, outcome) for job, outcome in results if job.row.pk in locked]
    lost = [(job, outcome) for job, outcome in results if job.row.pk not in locked]
    _recheck_lost(kind, lost, now)
    successes = [(job, outcome) for job, outcome in owned if outcome.error is None]
    _write_observed(kind, successes, now)
    _write_work(kind, [((job, outcome), locked[job.row.pk]) for job, outcome in owned], now)
    kind.settle(owned, now)
    observers.writing(kind, owned)
    return owned


def _recheck_lost(kind: Kind, lost_results: Sequence[Result], now: datetime) -> None:
    """Makes due the rows whose lease this worker has lost; passes those that were deleted to the
    kind's ``settle_deleted``."""
    if not lost_results:
        return
    rows = kind.model._default_manager.filter(pk__in=[job.row.pk for job, _ in lost_results])
    rows.make_due(now)
    existing_ids = set(rows.values_list("pk", flat=True))
    kind.settle_deleted(
        [(job, outcome) for job, outcome in lost_results if job.row.pk not in existing_ids]
    )


@dataclass(frozen=True)
class _Locked:
    """The current state of a row and of its work, both locked for the transaction."""

    generation: int
    work_id: int
    lane: int
    due_at: datetime | None
    refused_at: datetime | None

    def is_as_claimed(self, job: Job) -> bool:
        """Whether nobody has changed the desired state or made the row due since the row was
        claimed. If somebody has, the row stays due, so that the change is not lost."""
        return self.generation == job.generation and self.due_at == job.row.due_at


def _lock_leased(kind: Kind, results: Sequence[Result]) -> tuple[dict[int, _Locked], datetime]:
    """Locks the rows whose lease this worker still has. Returns the row's id → its state, and the
    database's current time."""
    owners = {job.row.pk: job.row.lease_owner for job, _ in results}
    # Selected by the ids of the work: with the rows' own ids, PostgreSQL chose a nested loop.
    work_ids = [job.row.work.pk for job, _ in results]
    leased = kind.rows().filter(work__pk__in=work_ids, work__lease_owner__in=set(owners.values()))
    locked = leased.select_for_update().order_by("pk").annotate(now=moment())
    rows = locked.values(
        "pk",
        "generation",
        "work__lease_owner",
        "work__id",
        "work__lane",
        "work__due_at",
        "work__refused_at",
        "now",
    )
    now: datetime | None = None
    locked_by_id: dict[int, _Locked] = {}
    for row in rows:
        now = row["now"]
        if owners[row["pk"]] == row["work__lease_owner"]:
            locked_by_id[row["pk"]] = _Locked(
                generation=row["generation"],
                work_id=row["work__id"],
                lane=row["work__lane"],
                due_at=row["work__due_at"],
                refused_at=row["work__refused_at"],
            )
    return locked_by_id, now or database_now()


def _write_observed(kind: Kind, successes: Sequence[Result], now: datetime) -> None:
    """Writes the observed state and the generation in which it was observed. Sets ``settled_after``
    of the jobs whose rows were not in sync before."""
    if not successes:
        return
    fields = columns(kind.model, (*kind.observed_fields, "observed_generation", "observed_at"))
    rows = []
    for job, outcome in successes:
        row = job.row
        if row.observed_generation != job.generation:
            job.settled_after = (now - row.wanted_at).total_seconds()
        observed = [outcome.values.get(name, getattr(row, name)) for name in kind.observed_fields]
        rows.append((row.pk, [*observed, job.generation, now]))
    _update_many(kind.model, fields, rows)


def _write_work(kind: Kind, owned: Sequence[tuple[Result, _Locked]], now: datetime) -> None:
    """Deletes work that is finished; makes other work due again or marks it as refused."""
    finished, remaining = [], []
    for result, locked in owned:
        values = _work_after(result, locked, now)
        if values["due_at"] is None and values["refused_at"] is None:
            finished.append(locked.work_id)
        else:
            remaining.append((locked.work_id, list(values.values())))
    if finished:
        Work.objects.filter(pk__in=finished).delete()
    if remaining:
        _update_many(Work, columns(Work, _WORK_COLUMNS), remaining)


_WORK_COLUMNS = (
    "attempts",
    "error_class",
    "error_code",
    "error_message",
    "due_at",
    "lane",
    "refused_at",
    "lease_until",
    "lease_owner",
)


def _work_after(result: Result, locked: _Locked, now: datetime) -> dict[str, Any]:
    """The columns of the row's work after this outcome."""
    job, outcome = result
    values = _success(job, outcome, now) if outcome.error is None else _failure(job, outcome, now)
    # After a change meanwhile, the row stays due as that change made it, whatever the outcome.
    if not locked.is_as_claimed(job):
        values |= {"due_at": locked.due_at, "lane": locked.lane, "refused_at": locked.refused_at}
    values |= {"lease_until": None, "lease_owner": ""}
    return {name: values[name] for name in _WORK_COLUMNS}


def _success(job: Job, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """The columns after a success: no failure, and due again only for a later check."""
    next_due = None if outcome.next_in is None else now + timedelta(seconds=outcome.next_in)
    return NO_FAILURE | {"due_at": next_due, "lane": job.row.lane}


def _failure(job: Job, outcome: Outcome, now: datetime) -> dict[str, Any]:
    """The columns after a failure: due again, or refused."""
    error, row = outcome.error, job.row
    if error is None:
        raise ValueError("a failure without an error")
    attempts = row.attempts
    refused_at: datetime | None = None
    next_due: datetime | None
    if outcome.is_waiting:
        next_due = now + timedelta(seconds=WAITING_DELAY)
    else:
        plan = retry_plan(error, row.attempts)
        attempts += plan.is_counted
        if plan.delay is None:
            refused_at, next_due = now, None
        else:
            next_due = now + timedelta(seconds=plan.delay)
    may_be_awaited = next_due is not None and attempts < EARLY_ATTEMPTS
    return {
        "attempts": attempts,
        "error_class": str(error.failure_class),
        "error_code": error.code[:64],
        "error_message": error.message[:500],
        "due_at": next_due,
        "lane": row.lane if may_be_awaited else _background_or_later(row.lane),
        "refused_at": refused_at,
    }


def _background_or_later(lane: int) -> int:
    """``lane``, or the background lane in place of the interactive one: nobody waits in a browser
    any more for a row that keeps failing."""
    return max(lane, int(Lane.BACKGROUND))


def _update_many(
    model: type[Any], fields: Sequence[Any], rows: Sequence[tuple[int, list[Any]]]
) -> None:
    """Saves these fields by one statement, which is executed for each row. rows: each row's id, and
    its values in the order of ``fields``."""
    quote = connection.ops.quote_name
    assignments = ", ".join(f"{quote(field.column)} = %s" for field in fields)
    sql = f"UPDATE {quote(model._meta.db_table)} SET {assignments} WHERE id = %s"  # noqa: S608
    with connection.cursor() as cursor:
        cursor.executemany(sql, [[*_for_database(fields, values), pk] for pk, values in rows])


def _for_database(fields: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """The values as parameters of a statement."""
    return [
        field.get_db_prep_save(value, connection)
        for field, value in zip(fields, values, strict=True)
    ]
