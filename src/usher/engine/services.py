"""The engine's public functions: reconcile due rows, make rows due, recheck them, keep running."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from django.db import Error, InterfaceError, OperationalError, close_old_connections
from django.db.models import Min, Q

from usher.engine import heartbeat, observers
from usher.engine.claim import Scope, reset_implausible_times, restore_lost
from usher.engine.clock import database_now
from usher.engine.due_query import DueQuery
from usher.engine.errors import KnownError
from usher.engine.gate import Gate
from usher.engine.kinds import Job, Kind, Outcome
from usher.engine.lanes import Lane
from usher.engine.made_due import (
    MadeDue,
    failures,
    failures_of_earlier_passes,
    is_claimed_elsewhere,
    succeeded_since,
)
from usher.engine.options import options
from usher.engine.policy import WAITING_DELAY, retry_plan
from usher.engine.registry import all_kinds, other_system
from usher.engine.runner import Runner
from usher.engine.stopping import Stop, StopAfter
from usher.engine.summary import Failure, Group, Summary
from usher.engine.transactions import refuse_within_transaction

#: Rows made due by one statement.
_ROWS_A_STATEMENT = 5000
#: Seconds between two sweeps of ``watch``.
_SWEEP_SECONDS = 60.0
#: Seconds that ``watch`` waits after the database did not answer.
_DATABASE_PAUSE_SECONDS = 2.0
#: Seconds between two checks of rows that another worker has claimed, or that are due again soon.
_CHECK_SECONDS = 0.1
#: The most failed rows, and the most waiting ones, that a pass remembers one by one; further rows
#: are only counted.
_MAX_REMEMBERED = 100_000

log = logging.getLogger("usher.engine")

#: Called after every write with the summary so far.
Progress = Callable[[Summary], None]


@dataclass(frozen=True)
class Patience:
    """seconds: how long a pass waits in total for rows that failed and are due again soon. The time
    in which the pass tries rows and no row succeeds counts as well."""

    seconds: float = 0.0


def reconcile(
    kinds: Iterable[str] | None = None,
    *,
    user: Any = None,
    related_to: Any = None,
    ids: tuple[int, int] | None = None,
    made_due: Mapping[str, Q] | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    accept_missing: bool = False,
    interactive_too: bool = False,
) -> Summary:
    """Changes the other system until it matches the due rows. Returns the summary of the pass.

    kinds: names of kinds; all by default. user, related_to, ids: only rows of this user (or user's
    id), rows that refer to this object, or rows with ids in this range, its end not included.

    made_due: rows that the caller has just made due and will report on, as ``recheck`` returns
    them. If another worker has claimed some of these rows, the pass waits for them, at most as long
    as a lease lasts, and includes their failures in the result. A row that failed and then
    succeeded within this pass counts as changed, not as failed; a row that only waits for something
    counts as waiting.

    patience: also wait for rows that failed and are due again soon. progress: called after every
    write. stop: ends the pass early when set. accept_missing: treat objects that the other system
    does not show as deleted, however many they are. interactive_too: also process interactive rows
    of all kinds and users during the pass.

    Raises KeyError for an unknown kind, ImproperlyConfigured for wrong settings, InTransaction
    within a transaction.
    """
    refuse_within_transaction()
    selected = _kinds_of(kinds)
    scope = scope_of(user, related_to, ids)
    tally = _Tally(progress)
    runner = Runner(other_system().context(accept_missing=accept_missing), options(), tally)
    if stop is not None:
        runner.stop = stop
    interactive = list(all_kinds().values()) if interactive_too else []
    seconds_for_other_workers = options().lease_seconds
    seconds_for_retries = (patience or Patience()).seconds
    while True:
        began, successes_before = time.monotonic(), tally.successes
        runner.run(selected, scope, interactive)
        if runner.stop.is_set() or (made_due is None and patience is None):
            break
        if tally.successes == successes_before:
            # Patience includes the time in which no row succeeds.
            seconds_for_retries -= time.monotonic() - began
        if (
            made_due
            and seconds_for_other_workers > 0
            and is_claimed_elsewhere(made_due, runner.state)
        ):
            wait = _CHECK_SECONDS
            seconds_for_other_workers -= wait
        else:  # no other worker has claimed a row, or the wait for other workers took too long
            tally.add_from_other_workers(made_due or {})
            tally.expected = getattr(made_due, "rows", 0)  # only a ``MadeDue`` has counted its rows
            if not tally.has_open_rows or seconds_for_retries <= 0:
                break
            seconds = _seconds_until_retry(selected, scope)
            if seconds is None or seconds > seconds_for_retries:
                break
            wait = seconds
            seconds_for_retries -= wait
        runner.stop.wait(wait)
        close_old_connections()
    return tally.end()


def scope_of(user: Any = None, related_to: Any = None, ids: tuple[int, int] | None = None) -> Scope:
    """A scope from the arguments of ``reconcile``; without arguments, all rows. user: a user, or a
    user's id. related_to: an object that rows refer to. ids: the first id, and the id at which the
    range ends, not included."""
    first, end = ids or (None, None)
    return Scope(getattr(user, "pk", user), related_to, first, end)


def _kinds_of(names: Iterable[str] | None) -> list[Kind]:
    """The kinds of these names, or all kinds for None, in the order of the registry. Raises
    KeyError."""
    registered = all_kinds()
    if names is None:
        return list(registered.values())
    names = set(names)
    if unknown := names - set(registered):
        raise KeyError(min(unknown))
    return [kind for name, kind in registered.items() if name in names]


def _seconds_until_retry(kinds: Sequence[Kind], scope: Scope) -> float | None:
    """Seconds until the first failed row in the scope is due again, at least ``_CHECK_SECONDS``;
    None when no failed row will be due."""
    due_times = []
    for kind in kinds:
        if (condition := scope.condition_for(kind)) is None:
            continue
        waiting = kind.rows().filter(condition, work__due_at__isnull=False).failing()
        if (first := waiting.aggregate(first=Min("work__due_at"))["first"]) is not None:
            due_times.append(first)
    if not due_times:
        return None
    # A row whose kind's gate is closed stays due, and no worker may claim it: without a minimum,
    # the caller would ask again and again.
    return max((min(due_times) - database_now()).total_seconds(), _CHECK_SECONDS)


class _Tally:
    """Counts the outcomes of a pass. Keeps the outcomes of rows that failed or wait, until they
    succeed."""

    def __init__(self, progress: Progress | None) -> None:
        self._counts = Summary()
        self._progress = progress
        #: The failed rows: a kind's name and the row's id → the failure.
        self.failing: dict[tuple[str, int], Failure] = {}
        self._waiting = _WaitingRows()
        #: How many rows the caller made due; set after all workers have processed these rows.
        self.expected = 0
        #: How many failures are counted but not in ``failing``.
        self._unremembered = 0

    def __call__(self, kind: str, results: Sequence[tuple[Job, Outcome]]) -> None:
        """Counts outcomes of one kind that the runner has written (``runner.Report``)."""
        for job, outcome in results:
            key = (kind, job.row.pk)
            self._waiting.remove(key)
            if (error := outcome.error) is None:
                self.failing.pop(key, None)
                self._counts.changed += outcome.changed
                self._counts.unchanged += not outcome.changed
            elif outcome.is_waiting or not retry_plan(error, job.row.attempts).is_counted:
                # Nothing is wrong with the row itself, so it does not count as failed.
                self.failing.pop(key, None)
                self._waiting.add(key, _waiting_group(kind, error, is_tried=not outcome.is_waiting))
            elif key in self.failing or len(self.failing) < _MAX_REMEMBERED:
                self.failing[key] = Failure.from_error(kind, job.display_name, error)
            else:
                self._unremembered += 1
        if self._progress:
            self._progress(self.summary())

    @property
    def successes(self) -> int:
        """How many outcomes were successes."""
        return self._counts.changed + self._counts.unchanged

    @property
    def has_open_rows(self) -> bool:
        """Whether a row failed or waits."""
        return bool(self.failing or self._waiting.count)

    def add_from_other_workers(self, made_due: Mapping[str, Q]) -> None:
        """Adds rows that failed in another worker; removes failures of this pass that another
        worker has since retried with success."""
        free = _MAX_REMEMBERED - len(self.failing)
        self.failing = dict(islice(failures(made_due), free)) | self.failing
        for key in self.failing:
            self._waiting.remove(key)
        for key in list(succeeded_since([*self.failing, *self._waiting.rows])):
            self.failing.pop(key, None)
            self._waiting.remove(key)
            self._counts.changed += 1

    def end(self) -> Summary:
        """The final summary. Logs it if any row succeeded or failed."""
        summary = self.summary()
        observers.ended(is_empty=not self.successes and not self.has_open_rows)
        if self.successes or summary.failed:
            log.info("reconciled: %s", summary.line())
        return summary

    def summary(self) -> Summary:
        """The summary so far."""
        summary = Summary(self._counts.changed, self._counts.unchanged)
        row_count = self.successes + len(self.failing) + self._waiting.count + self._unremembered
        summary.waiting = self._waiting.groups()
        summary.by_others = max(0, self.expected - row_count)
        for failure in self.failing.values():
            summary.fail(failure)
        summary.failed += self._unremembered
        return summary


class _WaitingRows:
    """Counts rows that wait, by kind and error code. rows: the first of these rows, each with the
    key of its group. Only rows in ``rows`` are subtracted from the count when they succeed
    later."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], tuple[str, str]] = {}
        self.count = 0
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, key: tuple[str, int], row: Group) -> None:
        """Counts a row. row: the row as a group of one."""
        group_key = (row.kind, row.code)
        self._change_count(group_key, 1, row)
        if len(self.rows) < _MAX_REMEMBERED:
            self.rows[key] = group_key

    def remove(self, key: tuple[str, int]) -> None:
        if group_key := self.rows.pop(key, None):
            self._change_count(group_key, -1, self._groups[group_key])

    def groups(self) -> list[Group]:
        return [group for group in self._groups.values() if group.count]

    def _change_count(self, group_key: tuple[str, str], difference: int, newest: Group) -> None:
        """Adds ``difference`` to the group's count. The group gets all other values of
        ``newest``."""
        former = self._groups.get(group_key)
        count = (former.count if former else 0) + difference
        self._groups[group_key] = replace(newest, count=count)
        self.count += difference


def _waiting_group(kind: str, error: KnownError, *, is_tried: bool) -> Group:
    """A row that waits, as a group of one. is_tried: whether it waits for its next attempt; False
    if it waits for something else, as ``Outcome.is_waiting`` says."""
    due_in = (error.retry_after or 0.0) if is_tried else WAITING_DELAY
    return Group(kind, 1, error.code, error.message, due_in, str(error.failure_class))


def add_earlier(
    summary: Summary,
    kinds: Iterable[str] | None = None,
    *,
    user: Any = None,
    related_to: Any = None,
) -> Summary:
    """Adds to the summary of a pass the rows that failed before the pass and were not tried in it,
    so that a command can report them. Arguments as for ``reconcile``; returns the same summary."""
    scope = scope_of(user, related_to)
    # The groups are read from the database, so ``waiting`` also has the rows that waited in the
    # pass itself.
    summary.waiting, summary.refused = failures_of_earlier_passes(_kinds_of(kinds), scope, summary)
    return summary


def recheck(
    kinds: Iterable[str] | None = None, *, user: Any = None, related_to: Any = None
) -> MadeDue:
    """Makes rows due although they are in sync, so that they are compared with the other system.
    Arguments as for ``reconcile``. Returns the rows, for ``reconcile``'s argument ``made_due``."""
    scope, made_due = scope_of(user, related_to), MadeDue()
    for kind in _kinds_of(kinds):
        made_due.failure = kind.before_recheck(user, related_to) or made_due.failure
        if (condition := scope.condition_for(kind)) is not None:
            made_due.rows += make_due(kind, condition, Lane.RECHECK)
            made_due[kind.name] = condition
    return made_due


def make_due(kind: Kind, condition: Q, lane: Lane = Lane.BACKGROUND) -> int:
    """Makes the rows of this kind and condition due, in ranges of ids, so that no statement changes
    all rows of a large table. Returns how many."""
    manager, last_id, count = kind.model._default_manager, 0, 0
    while True:
        ids = list(
            manager.filter(condition, pk__gt=last_id)
            .order_by("pk")
            .values_list("pk", flat=True)[:_ROWS_A_STATEMENT]
        )
        if not ids:
            return count
        count += manager.filter(condition, pk__gt=last_id, pk__lte=ids[-1]).make_due(lane=lane)
        last_id = ids[-1]


def open_gates(kinds: Iterable[str] | None = None) -> None:
    """Opens the gates of these kinds, all by default. Call it after an operator has repaired the
    cause. Raises KeyError for an unknown kind."""
    state = other_system().state()
    for kind in _kinds_of(kinds):
        Gate(kind.name, state).open()


def prepare_sweep() -> None:
    """Runs before every sweep. Resets timestamps that a clock jump moved into the future. Makes
    rows due that lost their work, or whose objects changed in the other system without a
    message."""
    for kind in all_kinds().values():
        reset_implausible_times(kind, options().lease_seconds)
        restore_lost(kind)
    other_system().before_sweep()
    heartbeat.record_sweep()
    observers.swept()


def watch(
    kinds: Iterable[str] | None = None, *, stop: threading.Event, every: float = 1.0, **scope: Any
) -> None:
    """Reconciles until ``stop`` is set: a worker that does not need Celery.

    every: seconds between two checks for due rows. scope: as for ``scope_of``. Raises KeyError for
    an unknown kind.
    """
    names, swept_at = [kind.name for kind in _kinds_of(kinds)], 0.0
    query = DueQuery(_kinds_of(names), scope_of(**scope))
    while not stop.is_set():
        try:
            heartbeat.beat()
            if not swept_at or time.monotonic() - swept_at > _SWEEP_SECONDS:
                with heartbeat.beating():
                    prepare_sweep()
                swept_at = time.monotonic()
            if query.due():
                stop_before_next_sweep = StopAfter(stop, _SWEEP_SECONDS)
                with heartbeat.beating():
                    reconcile(names, stop=stop_before_next_sweep, **scope)
        except (OperationalError, InterfaceError) as error:
            # The database restarts or is overloaded; the rows stay due.
            log.warning("the database does not answer: %s", str(error).strip())
            stop.wait(_DATABASE_PAUSE_SECONDS)
        close_old_connections()
        stop.wait(every)
    with suppress(Error):  # the database may have been stopped before this worker
        heartbeat.record_stop()
    observers.stopped()
