"""Records the work of a worker: numbers of outcomes every few seconds, and each failure.

A success only adds to a number in memory. While a record waits for another record, or because a
circuit is open, no attempt is counted.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from usher.application.lms_client import client
from usher.application.retention import remove
from usher.client.errors import LmsError
from usher.console.recording.models import MESSAGE_MAX_LENGTH, Attempt, WorkDone, Worker
from usher.contract.failures import FailureClass
from usher.engine.clock import database_now
from usher.engine.gate import Gate
from usher.engine.observers import Observer
from usher.engine.policy import retry_plan
from usher.engine.registry import kind_names

#: Seconds between two writes by one process.
WRITE_SECONDS = 5.0
#: The number of a record's first failures that are all kept. ``_is_kept`` selects some of the later
#: failures.
_FIRST_FAILURES_KEPT = 8
#: How long rows are kept.
ATTEMPTS_KEPT = timedelta(days=30)
WORK_KEPT = timedelta(days=2)
WORKERS_KEPT = timedelta(days=1)
#: Columns of ``WorkDone``.
_COUNT_COLUMNS = ("changed", "unchanged", "failed", "refused")


class Recorder(Observer):
    """Records the outcomes of one process, and what the process knows about the LMS; safe for use
    by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._reset()

    def _reset(self) -> None:
        """Starts with no counts. Also called in a forked process, such as a process of Celery's
        pool."""
        self._pid = os.getpid()
        self.name = f"{socket.gethostname()[:80]}:{self._pid}"
        #: Column of ``WorkDone`` → number of outcomes since the last write; '' → number of outcomes
        #: that no column counts.
        self._counts: Counter[str] = Counter()
        #: Kind → message, code and time of its last failure that concerns all learners.
        self._systemic_failures: dict[str, dict[str, Any]] = {}
        # Long ago, so that the next beat writes.
        self._flushed_at = self._reported_at = 0.0

    def written(self, kind: str, results: Sequence[tuple[Any, Any]]) -> None:
        """Counts the outcomes in memory, and writes a row for each failure that is kept. results:
        jobs and their outcomes, which the engine has written."""
        if os.getpid() != self._pid:
            self._reset()
        with self._lock:
            for _, outcome in results:
                self._counts[_count_column(outcome)] += 1
        attempts = []
        for job, outcome in results:
            self._remember_systemic_failure(kind, outcome)
            attempt = _attempt_row(kind, job, outcome)
            if attempt is not None:
                attempts.append(attempt)
        if attempts:
            Attempt.objects.bulk_create(attempts, batch_size=500)

    def _remember_systemic_failure(self, kind: str, outcome: Any) -> None:
        """Keeps the kind's last failure that concerns all learners, until an outcome succeeds."""
        error = outcome.error
        if error is None:
            self._systemic_failures.pop(kind, None)
        elif error.failure_class is FailureClass.SYSTEMIC:
            report = {"message": error.message[:MESSAGE_MAX_LENGTH], "code": error.code[:64]}
            self._systemic_failures[kind] = report | {"at": time.time()}

    def beat(self) -> None:
        """Writes the counts and the worker's row, every few seconds."""
        if os.getpid() != self._pid:
            self._reset()
        now = time.monotonic()
        if now - self._flushed_at >= WRITE_SECONDS:
            self.flush()
        if now - self._reported_at >= WRITE_SECONDS:
            self._write_worker_row()

    def _write_worker_row(self) -> None:
        """Writes the worker's row; does nothing in a process that is not a worker."""
        self._reported_at = time.monotonic()
        role = worker_role()
        if role:
            values = {"role": role, "seen_at": database_now(), "report": self.report()}
            Worker.objects.update_or_create(name=self.name, defaults=values)

    def ended(self, *, is_empty: bool) -> None:
        self.flush()

    def stopped(self) -> None:
        self.flush()
        if worker_role():
            Worker.objects.filter(name=self.name).delete()

    def flush(self) -> None:
        """Adds the counts to the row of this minute."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
        self._flushed_at = time.monotonic()
        counts.pop("", None)  # outcomes that no column counts
        if not counts:
            return
        _add_to_this_minute(self.name, counts)

    def report(self) -> dict[str, Any]:
        """The state of gates, circuit breakers and pauses as known to this process, and statistics
        of the LMS's answers; can be stored as JSON."""
        http = client().http
        health = http.health()
        gates = {}
        for name in kind_names():
            if Gate(name, http.state).is_closed:
                failure = self._systemic_failures.get(name, {})
                gates[name] = {"again_in": http.state.remaining(f"kind:{name}"), **failure}
        return {
            "lms": {
                "answered_at": health.answered_at,
                "failed_at": health.failed_at,
                "failure": health.failure[:MESSAGE_MAX_LENGTH],
                "milliseconds": list(health.milliseconds),
            },
            "circuits": health.open_circuits,
            "throttled": health.throttled,
            "gates": gates,
        }


def _add_to_this_minute(worker: str, counts: Mapping[str, int]) -> None:
    """Adds the counts to the worker's row of this minute, which is created if it does not exist:
    with one statement, since this runs for every learner's action."""
    table = connection.ops.quote_name(WorkDone._meta.db_table)
    # The expression for the current minute, and the values of its parameters.
    if connection.vendor == "sqlite":
        minute = "%s"
        now = database_now().replace(second=0, microsecond=0)
        values: list[Any] = [connection.ops.adapt_datetimefield_value(now)]
    else:
        minute = "date_trunc('minute', statement_timestamp())"
        values = []
    values.append(worker)
    values += [counts.get(name, 0) for name in _COUNT_COLUMNS]
    columns = ", ".join(_COUNT_COLUMNS)
    placeholders = ", ".join("%s" for _ in _COUNT_COLUMNS)
    additions = ", ".join(f"{name} = {table}.{name} + excluded.{name}" for name in _COUNT_COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} (minute, worker, {columns}) "  # noqa: S608
            f"VALUES ({minute}, %s, {placeholders}) "
            f"ON CONFLICT (minute, worker) DO UPDATE SET {additions}",
            values,
        )


def worker_role() -> str:
    """The kind of this worker process; '' for a command or a web server, which is not a worker."""
    program = sys.argv[0] if sys.argv else ""
    name = os.path.basename(program)  # noqa: PTH119 - a name, no path
    is_celery_module = name == "__main__.py" and "celery" in program  # `python -m celery`
    if "celery" in name or is_celery_module:
        return "Celery worker"
    return "reconcile --watch" if "--watch" in sys.argv else ""


def _count_column(outcome: Any) -> str:
    """The column that counts this outcome; '' for none."""
    error: LmsError | None = outcome.error
    if error is None:
        return "changed" if outcome.changed else "unchanged"
    if outcome.is_waiting:
        return ""
    if error.failure_class is FailureClass.REJECTED:
        return "refused"
    return "failed"


def _attempt_row(kind: str, job: Any, outcome: Any) -> Attempt | None:
    """The row to store; None for a success without earlier failures, and for a failure that is not
    counted or not kept."""
    error = outcome.error
    row = job.row
    if error is None:
        has_failed_before = row.attempts > 0
        return Attempt(kind=kind, row_id=row.pk, succeeded=True) if has_failed_before else None
    if outcome.is_waiting or not retry_plan(error, row.attempts).is_counted:
        return None
    if row.refused_at is not None:
        return None  # only compared with the LMS: the earlier refusal still counts
    if not _is_kept(row.attempts + 1):
        return None
    return Attempt(
        kind=kind,
        row_id=row.pk,
        error_class=str(error.failure_class),
        code=error.code[:64],
        message=error.message[:MESSAGE_MAX_LENGTH],
    )


def _is_kept(number: int) -> bool:
    """Whether to keep a record's failure with this number. The first eight are kept, then the 16th,
    the 32nd and so on, so that records that fail for weeks do not fill the table."""
    is_power_of_two = number & (number - 1) == 0
    return number <= _FIRST_FAILURES_KEPT or is_power_of_two


def forget_old() -> int:
    """Deletes rows that are older than the retention time; returns how many."""
    now = timezone.now()
    return sum(
        (
            remove(Attempt.objects.filter(at__lt=now - ATTEMPTS_KEPT)),
            remove(WorkDone.objects.filter(minute__lt=now - WORK_KEPT)),
            remove(Worker.objects.filter(seen_at__lt=now - WORKERS_KEPT)),
        )
    )


recorder = Recorder()
