"""``reconcile``: changes the other system until it matches, for all due rows or some of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.db import InterfaceError, OperationalError, close_old_connections
from django.db.models import Min, Q

from usher.engine import heartbeat, observers
from usher.engine.claim import Scope, reset_implausible_times, restore_lost
from usher.engine.clock import database_now
from usher.engine.gate import Gate
from usher.engine.kinds import Job, Kind, Outcome
from usher.engine.lanes import Lane
from usher.engine.made_due import (
    Asked,
    MadeDue,
    earlier,
    failures,
    is_claimed_elsewhere,
    succeeded_later,
)
from usher.engine.options import options
from usher.engine.outlook import Outlook
from usher.engine.registry import all_kinds, other_system
from usher.engine.runner import Runner
from usher.engine.stopping import Stop, StopAfter
from usher.engine.summary import Failure, Summary
from usher.engine.transactions import refuse_within_transaction

#: Rows made due by one statement.
_ROWS_A_STATEMENT = 5000
#: Between two sweeps of ``watch``, and after the database did not answer.
_SWEEP_SECONDS = 60.0
_DATABASE_PAUSE = 2.0
#: Between two looks at rows that another worker has, or that are due again.
_LOOK_SECONDS = 0.1
#: Rows that failed and are remembered one by one; the rest is only counted.
_FAILING = 100_000

log = logging.getLogger("usher.engine")

#: Called after every write with the summary so far.
Progress = Callable[[Summary], None]


@dataclass(frozen=True)
class Patience:
    """seconds: how long a run waits, in all, for rows that failed and are due again soon, the time
    in which a system that hangs lets everything fail included."""

    seconds: float = 0.0


def reconcile(
    kinds: Iterable[str] | None = None,
    *,
    user: Any = None,
    about: Any = None,
    ids: tuple[int, int] | None = None,
    asked: Asked | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    accept_missing: bool = False,
    interactive_too: bool = False,
) -> Summary:
    """Works on what is due of these kinds; of one user, about one object or of a range of
    ids if given.

    asked: rows that the caller has just made due and answers for, as ``recheck`` gives them. Those
    that another worker has are waited for, as long as a lease lasts, and what fails there counts.
    A row that failed and then succeeded within this run counts as changed, not as failed.
    accept_missing: believe that the other system lost objects, however many they are.
    interactive_too: meanwhile also works on what people wait for, of all kinds and users.
    Raises KeyError for an unknown kind, ImproperlyConfigured for wrong settings, InTransaction
    within a transaction.
    """
    refuse_within_transaction()
    found = _kinds_of(kinds)
    scope = scope_of(user, about, ids)
    tally = _Tally(progress)
    runner = Runner(other_system().context(accept_missing=accept_missing), options(), tally)
    if stop is not None:
        runner.stop = stop
    interactive = list(all_kinds().values()) if interactive_too else []
    for_other_workers = options().lease_seconds
    for_retries = (patience or Patience()).seconds
    while True:
        began, reached = time.monotonic(), tally.reached
        runner.run(found, scope, interactive)
        if runner.stop.is_set() or (asked is None and patience is None):
            return tally.end()
        if tally.reached == reached:
            for_retries -= time.monotonic() - began
        if asked and for_other_workers > 0 and is_claimed_elsewhere(asked, runner.state):
            wait = _LOOK_SECONDS
            for_other_workers -= wait
        else:
            tally.add_from_other_workers(asked or {})
            tally.expected = getattr(asked, "rows", 0)
            if not tally.failing or for_retries <= 0:
                return tally.end()
            # A row may be due for long and still not be worked on, as while its kind's gate is
            # closed: to wait for it needs patience too.
            due_in = _until_due(found, scope)
            if due_in is None or (wait := max(due_in, _LOOK_SECONDS)) > for_retries:
                return tally.end()
            for_retries -= wait
        runner.stop.wait(wait)
        close_old_connections()


def scope_of(user: Any = None, about: Any = None, ids: tuple[int, int] | None = None) -> Scope:
    """The rows of one user, about one object or of a range of ids; of all when nothing is given.
    user: a user, or a user's id. about: an object that rows refer to."""
    first, end = ids or (None, None)
    return Scope(getattr(user, "pk", user), about, first, end)


def _kinds_of(wanted: Iterable[str] | None) -> list[Kind]:
    """In the order in which they are worked on; all for None. Raises KeyError."""
    found = all_kinds()
    if wanted is None:
        return list(found.values())
    wanted = set(wanted)
    if unknown := wanted - set(found):
        raise KeyError(min(unknown))
    return [each for name, each in found.items() if name in wanted]


def _until_due(kinds: Sequence[Kind], scope: Scope) -> float | None:
    """Seconds until the next row of the scope that failed is due; None when there is none."""
    soonest = None
    for each in kinds:
        if (condition := scope.of(each)) is None:
            continue
        waiting = each.rows().filter(condition, work__due_at__isnull=False).failing()
        at = waiting.aggregate(at=Min("work__due_at"))["at"]
        soonest = at if soonest is None or (at and at < soonest) else soonest
    return None if soonest is None else (soonest - database_now()).total_seconds()


class _Tally:
    """Counts what was written; keeps the failures that were not made good later."""

    def __init__(self, progress: Progress | None) -> None:
        self._counts = Summary()
        self._progress = progress
        self.failing: dict[tuple[str, int], Failure] = {}
        #: Rows that the caller made due; known to be done when nobody has any of them.
        self.expected = 0
        self._more = 0

    def __call__(self, kind: str, written: Sequence[tuple[Job, Outcome]]) -> None:
        for job, outcome in written:
            key = (kind, job.row.pk)
            if outcome.error is None:
                self.failing.pop(key, None)
                self._counts.changed += outcome.changed
                self._counts.unchanged += not outcome.changed
            elif key in self.failing or len(self.failing) < _FAILING:
                self.failing[key] = _failure(kind, job, outcome)
            else:
                self._more += 1
        if self._progress:
            self._progress(self.summary())

    @property
    def reached(self) -> int:
        """How often a row was seen to be as wanted."""
        return self._counts.changed + self._counts.unchanged

    def add_from_other_workers(self, asked: Asked) -> None:
        """What other workers left of these rows, and made good of those that failed here."""
        free = _FAILING - len(self.failing)
        self.failing = dict(islice(failures(asked), free)) | self.failing
        for key in list(succeeded_later(self.failing)):
            del self.failing[key]
            self._counts.changed += 1

    def end(self) -> Summary:
        """The summary, told to the log when anything was worked on."""
        found = self.summary()
        observers.ended(is_empty=not self.reached and not found.failed)
        if self.reached or found.failed:
            log.info("reconciled: %s", found.line())
        return found

    def summary(self) -> Summary:
        found = Summary(self._counts.changed, self._counts.unchanged)
        seen = self.reached + len(self.failing) + self._more
        found.by_others = max(0, self.expected - seen)
        for failure in self.failing.values():
            found.fail(failure)
        found.failed += self._more
        return found


def _failure(kind: str, job: Job, outcome: Outcome) -> Failure:
    error = outcome.error
    if error is None:
        raise ValueError("a failure without an error")
    return Failure(kind, job.what, str(error.failure_class), error.code, error.message)


def add_earlier(
    summary: Summary, kinds: Iterable[str] | None = None, *, user: Any = None, about: Any = None
) -> Summary:
    """Adds what failed before this run and was not tried in it, for people who wait for it."""
    scope = scope_of(user, about)
    summary.waiting, summary.refused = earlier(_kinds_of(kinds), scope, summary)
    return summary


def recheck(kinds: Iterable[str] | None = None, *, user: Any = None, about: Any = None) -> Asked:
    """Makes rows due although they seem right, so that they are compared again. Which ones."""
    scope, asked = scope_of(user, about), MadeDue()
    for each in _kinds_of(kinds):
        each.recheck_rows(user, about)
        if (condition := scope.of(each)) is not None:
            asked.rows += make_due(each, condition, Lane.RECHECK)
            asked[each.name] = condition
    return asked


def make_due(kind: Kind, condition: Q, lane: Lane = Lane.BACKGROUND) -> int:
    """Makes rows due by ranges of ids, so that no statement touches a whole large table."""
    manager, last, count = kind.model._default_manager, 0, 0
    while True:
        ids = list(
            manager.filter(condition, pk__gt=last)
            .order_by("pk")
            .values_list("pk", flat=True)[:_ROWS_A_STATEMENT]
        )
        if not ids:
            return count
        count += manager.filter(condition, pk__gt=last, pk__lte=ids[-1]).make_due(lane=lane)
        last = ids[-1]


def reopen(kinds: Iterable[str] | None = None) -> None:
    """Forgets that these kinds failed for everybody: somebody says that it was repaired."""
    state = other_system().state()
    for each in _kinds_of(kinds):
        Gate(each.name, state).open()


def sweep_prepare() -> None:
    """Before every sweep: resets timestamps that a clock jump moved into the future, and makes due
    what the other system changed without sending a message."""
    for each in all_kinds().values():
        reset_implausible_times(each, options().lease_seconds)
        restore_lost(each)
    other_system().before_sweep()
    heartbeat.swept()
    observers.swept()


def watch(
    kinds: Iterable[str] | None = None, *, stop: threading.Event, every: float = 1.0, **scope: Any
) -> None:
    """Keeps on reconciling until ``stop`` is set: the engine of a machine without Celery."""
    wanted, swept = [each.name for each in _kinds_of(kinds)], 0.0
    outlook = Outlook(_kinds_of(wanted), scope_of(**scope))
    while not stop.is_set():
        try:
            heartbeat.beat()
            if not swept or time.monotonic() - swept > _SWEEP_SECONDS:
                sweep_prepare()
                swept = time.monotonic()
            if outlook.due():
                until_sweep = StopAfter(stop, _SWEEP_SECONDS)
                reconcile(wanted, stop=until_sweep, progress=lambda _: heartbeat.beat(), **scope)
        except (OperationalError, InterfaceError) as error:
            # A database that restarts, or is busy for long: the rows are still there afterwards.
            log.warning("the database does not answer: %s", str(error).strip())
            stop.wait(_DATABASE_PAUSE)
        close_old_connections()
        stop.wait(every)
    observers.stopped()
