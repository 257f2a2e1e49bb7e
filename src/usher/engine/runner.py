"""Processes due rows: one thread uses the database, many threads use the network.

The database thread claims rows and makes a job of each. Network threads run the jobs and put the
outcomes into one queue. The database thread takes the outcomes from this queue and writes them in
bulk. Rows of the interactive lane are claimed at any time, and their jobs run first. Otherwise
kinds take turns, so that a long backlog of one kind does not delay the rest. A job that needs the
database, for example for an OAuth code of this application, sends a question through the same
queue; the database thread answers all waiting questions in one batch.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from django.db import InterfaceError, OperationalError

from usher.contract.failures import FailureClass
from usher.engine import observers
from usher.engine.claim import Scope, claim, release, renew
from usher.engine.clock import elapsed
from usher.engine.due_query import DueQuery, KindAndLane
from usher.engine.errors import JobFailed, KnownError, LeaseEnded, Unwritable, as_known_error
from usher.engine.gate import Gate
from usher.engine.kinds import Job, Kind, Outcome
from usher.engine.lanes import Lane, background
from usher.engine.options import Options
from usher.engine.other_system import Context, Span
from usher.engine.outages import outages
from usher.engine.pool import Pool
from usher.engine.registry import other_system
from usher.engine.stopping import Stop
from usher.engine.writeback import Result, write_back

#: Outcomes are written when there are _FLUSH_ROWS of them, or when the oldest one is _FLUSH_SECONDS
#: old.
_FLUSH_ROWS = 200
_FLUSH_SECONDS = 0.25
#: The most background rows that the database thread claims or writes at a time: few enough that
#: interactive rows don't wait long for this thread.
_MAX_ROWS_AT_A_TIME = 500
#: Background rows are claimed when at least this many, or one batch, may be claimed.
_CLAIM_ROWS = 200
#: The most interactive rows that are claimed at the same time.
_MAX_INTERACTIVE_ROWS = 400
#: The most concurrent batch requests of one kind: each request keeps the other system busy with
#: hundreds of rows.
_MAX_BATCHES = 4
#: Seconds between two checks for interactive rows while a pass is busy.
_CHECK_SECONDS = 0.2
#: Seconds between two requests for the batch capabilities, while they are not known.
_CAPABILITIES_SECONDS = 1.0
#: Seconds that a job waits for an answer of the database thread.
_ANSWER_SECONDS = 120.0

log = logging.getLogger("usher.engine")

#: Called with the kind's name and the jobs and outcomes that were written.
Report = Callable[[str, Sequence[Result]], None]


@dataclass
class _Question:
    """A job's question to the database thread, and the future that gets the answer."""

    question: Any
    answer: Future[Any] = field(default_factory=Future)


@dataclass
class _Finished:
    """Jobs of one kind that have ended, with their outcomes."""

    kind: Kind
    results: list[Result]


class Runner:
    """One pass of a worker over the due rows.

    Another thread or process may set ``stop``. The pass then releases the rows whose jobs no thread
    has begun, and waits up to ``Options.stop_seconds`` for the outcomes of the others. A row whose
    job was begun is never released, because its request might arrive after a request of the next
    worker. If the outcome does not come in time, the row's lease runs out.
    """

    def __init__(self, context: Context, opts: Options, report: Report) -> None:
        self.stop: Stop = threading.Event()
        self._opts = opts
        self._report = report
        self._events: queue.Queue[_Question | _Finished] = queue.Queue()
        self._context = context.for_jobs(self._ask)
        self._capabilities_asked_at = time.monotonic()
        self.state = context.state
        #: Jobs of rows that are claimed and whose outcomes are not yet written, by the rows' ids.
        self._claimed_jobs: dict[Kind, dict[int, Job]] = {}
        #: Outcomes that are not yet written, and when the oldest of them came.
        self._unwritten: dict[Kind, list[Result]] = {}
        self._oldest_unwritten_at = 0.0
        self._renewed_at = elapsed()
        #: Kinds of which one row is tried, because their gate is closed.
        self._probing: set[Kind] = set()
        #: Whether the pass has ended, so that no thread may begin a job any more.
        self._is_closed = False
        #: Held while jobs are marked as begun, and while those that are not begun are selected.
        self._begin_lock = threading.Lock()
        #: When a pass that was told to stop ends although outcomes are missing.
        self._stop_by: float | None = None
        #: Kinds and lanes that had due rows when last checked, and may still have some.
        self._due: set[KindAndLane] = set()
        #: When ``_due`` was last checked; None: check it now.
        self._checked_at: float | None = None

    def run(self, kinds: Iterable[Kind], scope: Scope, interactive: Iterable[Kind] = ()) -> None:
        """Runs until no row of these kinds and this scope is due, or ``stop`` is set.

        interactive: kinds whose interactive rows are processed as well, whatever the scope.
        """
        kinds, self._is_closed, self._renewed_at = list(kinds), False, elapsed()
        names = {kind.name for kind in kinds}
        interactive_kinds = [kind for kind in interactive if kind.name not in names]
        pool, self._checked_at = Pool(self._opts.concurrency, "usher-lms"), None
        try:
            with background():  # work that kinds make has this lane, unless they set another one
                self._loop(pool, kinds, scope, interactive_kinds)
        finally:
            pool.close()
            self._clean_up()

    def _loop(
        self, pool: Pool, kinds: list[Kind], scope: Scope, interactive_kinds: list[Kind]
    ) -> None:
        """Claims due rows, collects outcomes and writes them, until nothing is left to do."""
        query = DueQuery(kinds, scope, interactive_kinds)
        while True:
            self._refresh_capabilities()
            if not self.stop.is_set():
                if self._is_check_due():
                    self._due = query.due()
                    self._checked_at = time.monotonic()
                self._claim_more(pool, kinds, scope, interactive_kinds)
            if not self._claimed_count() and not self._unwritten:
                if self.stop.is_set() or not self._due:
                    return
                continue  # more rows are due: claim them
            self._collect()
            if self._has_stop_timed_out():
                self._flush_all()
                self._abandon()
                return
            if self._is_flush_due():
                self._flush()
                self._checked_at = None  # the written outcomes may have made other rows due
                observers.passing()
            self._renew_leases()

    def _is_check_due(self) -> bool:
        return self._checked_at is None or time.monotonic() - self._checked_at > _CHECK_SECONDS

    def _refresh_capabilities(self) -> None:
        """Asks again for the batch capabilities, which may not have been known at first."""
        if time.monotonic() - self._capabilities_asked_at < _CAPABILITIES_SECONDS:
            return
        self._capabilities_asked_at = time.monotonic()
        self._context = self._context.refresh() or self._context

    def _claim_more(
        self, pool: Pool, kinds: list[Kind], scope: Scope, interactive_kinds: list[Kind]
    ) -> None:
        """Claims due rows: interactive rows first; rows of the lane RECHECK only if no others are
        due."""
        for kind in (*kinds, *interactive_kinds):
            if (kind, Lane.INTERACTIVE) in self._due:
                free = self._interactive_capacity()
                self._claim(pool, kind, scope if kind in kinds else Scope(), Lane.INTERACTIVE, free)
        capacity = _MAX_ROWS_AT_A_TIME
        # ``DueQuery`` gives the lane None, for any lane, if the scope leaves only a few rows.
        for lane in (None, Lane.BACKGROUND, Lane.RECHECK):
            open_kinds = [kind for kind in kinds if (kind, lane) in self._due]
            for kind in open_kinds:
                free = self._background_capacity(kind)
                if free < min(_CLAIM_ROWS, kind.batch_size):
                    continue
                if claimed := self._claim(pool, kind, scope, lane, min(free, capacity)):
                    kinds.append(kinds.pop(kinds.index(kind)))  # other kinds come first next time
                capacity -= claimed
                if capacity <= 0:
                    return
            if open_kinds:  # the rows of the next lane have to wait for those of this lane
                return

    def _claim(self, pool: Pool, kind: Kind, scope: Scope, lane: Lane | None, free: int) -> int:
        """Claims at most ``free`` rows of that kind and lane and starts their jobs. Returns how
        many. lane: None for all lanes. Claims a single row if the kind's gate allows only a
        probe."""
        allowed = Gate(kind.name, self.state).allowed_rows()  # None: any number of rows
        if allowed == 0 or kind in self._probing:
            self._due.discard((kind, lane))
            return 0
        if free <= 0:
            return 0
        if allowed == 1:
            self._probing.add(kind)
        limit = min(allowed or free, free)
        # The lease's owner is not needed here: each row has it as ``lease_owner``.
        lease_ends_at = elapsed() + self._opts.lease_seconds
        _, rows = claim(kind, scope, limit, self._opts.lease_seconds, lane=lane)
        if len(rows) < limit:
            self._due.discard((kind, lane))
        if rows:
            is_urgent = scope.user_id is not None
            self._start_jobs(pool, kind, rows, lease_ends_at, is_urgent=is_urgent)
        else:
            self._probing.discard(kind)
        return len(rows)

    def _background_capacity(self, kind: Kind) -> int:
        """How many more background rows of that kind may be claimed: enough to keep all threads
        busy."""
        if self._is_batched(kind):
            return _MAX_BATCHES * kind.batch_size - self._background_count([kind])
        unbatched = [claimed for claimed in self._claimed_jobs if not self._is_batched(claimed)]
        # A row for each thread, and the rows of two claims in advance: no thread runs out of rows
        # while the next rows are claimed.
        return self._opts.concurrency + 2 * _CLAIM_ROWS - self._background_count(unbatched)

    def _interactive_capacity(self) -> int:
        """How many more interactive rows may be claimed. Claimed background rows do not count
        against the limit."""
        urgent_count = self._claimed_count() - self._background_count(self._claimed_jobs)
        return _MAX_INTERACTIVE_ROWS - urgent_count

    def _background_count(self, kinds: Iterable[Kind]) -> int:
        """How many claimed rows of these kinds are not urgent."""
        jobs = (job for kind in kinds for job in self._claimed_jobs.get(kind, {}).values())
        return sum(not job.is_urgent for job in jobs)

    def _claimed_count(self) -> int:
        """How many rows are claimed and not yet written."""
        return sum(len(jobs) for jobs in self._claimed_jobs.values())

    def _is_batched(self, kind: Kind) -> bool:
        """Whether one request may have several rows of that kind."""
        return kind.always_in_batches or kind.batch_capability in self._context.batch

    def _start_jobs(
        self, pool: Pool, kind: Kind, rows: list[Any], lease_ends_at: float, *, is_urgent: bool
    ) -> None:
        """Prepares claimed rows and submits their jobs. lease_ends_at: as for ``Job``. is_urgent: a
        person waits for each of the rows, even for rows outside of the interactive lane."""
        claimed_jobs = self._claimed_jobs.setdefault(kind, {})
        # If ``prepare`` fails, the rows of these jobs are released.
        claimed_jobs.update({row.pk: Job(row, display_name="") for row in rows})
        self._context.before_work()
        prepared = self._prepare(kind, rows)
        for job, _ in prepared:
            job.is_urgent = is_urgent or job.row.lane == Lane.INTERACTIVE
            job.lease_ends_at = lease_ends_at
        claimed_jobs.update({job.row.pk: job for job, _ in prepared})
        jobs = [job for job, outcome in prepared if outcome is None]
        finished = [(job, outcome) for job, outcome in prepared if outcome is not None]
        self._add_results(kind, finished)
        if self._is_batched(kind):
            for start in range(0, len(jobs), kind.batch_size):
                batch = jobs[start : start + kind.batch_size]
                pool.submit(self._act_many, kind, batch, urgent=_any_urgent(batch))
        else:
            for job in jobs:
                pool.submit(self._act, kind, job, urgent=job.is_urgent)

    def _prepare(self, kind: Kind, rows: list[Any]) -> list[tuple[Job, Outcome | None]]:
        """The result of the kind's ``prepare``. If preparing all rows together fails, prepares each
        row by itself, so that only the row at fault fails."""
        try:
            return kind.prepare(rows, self._context)
        except (OperationalError, InterfaceError):
            raise  # the database does not answer, so no row is at fault
        except Exception as error:  # noqa: BLE001 - one row must not stop the rest
            if len(rows) > 1 and not isinstance(error, KnownError):
                return [prepared for row in rows for prepared in self._prepare(kind, [row])]
            failure = as_known_error(error)
            named_rows = zip(rows, kind.display_names(rows), strict=True)
            return [(Job(row, name), Outcome(error=failure)) for row, name in named_rows]

    # In the network threads

    def _begin(self, jobs: Sequence[Job]) -> bool:
        """Marks the jobs as begun. Returns False when the pass is stopping: the jobs must not be
        sent."""
        with self._begin_lock:
            if self._is_closed or self.stop.is_set():
                return False
            for job in jobs:
                job.is_begun = True
            return True

    def _act(self, kind: Kind, job: Job) -> None:
        """Sends one job, a second time if it is refused for the first time, and puts its outcome
        into the queue. While the pass is stopping, does nothing."""
        if not self._begin([job]):
            return
        with self._working_on(kind, [job]) as span:
            outcome = self._act_once(kind, job)
            if self._needs_second_answer(job, outcome):
                outcome = self._act_once(kind, job)
            _record_in_span(span, [outcome])
        self._events.put(_Finished(kind, [(job, outcome)]))

    def _act_once(self, kind: Kind, job: Job) -> Outcome:
        """The outcome of one attempt; every error becomes an outcome too."""
        outcome = _outcome_of(lambda: self._recognise_and_act(kind, job))
        return self._verify_refusals([outcome])[0]

    def _recognise_and_act(self, kind: Kind, job: Job) -> Outcome:
        """The job's outcome. Raises if another server answers at the other system's address, or if
        the row's lease has ended."""
        _require_leases([job])
        self._context.recognise()
        return kind.act(job, self._context)

    def _act_many(self, kind: Kind, jobs: list[Job]) -> None:
        """Sends a batch, those jobs a second time that are refused for the first time, and puts the
        outcomes into the queue. While the pass is stopping, does nothing."""
        if not self._begin(jobs):
            return
        with self._working_on(kind, jobs) as span:
            first_results = self._send_many(kind, jobs)
            results, jobs_to_repeat = [], []
            for job, outcome in first_results:
                if self._needs_second_answer(job, outcome):
                    jobs_to_repeat.append(job)
                else:
                    results.append((job, outcome))
            if jobs_to_repeat:
                results += self._send_many(kind, jobs_to_repeat)
            _record_in_span(span, [outcome for _, outcome in results])
        self._events.put(_Finished(kind, results))

    def _working_on(self, kind: Kind, jobs: Sequence[Job]) -> AbstractContextManager[Span]:
        """The context's ``working_on`` for these jobs, whose leases it checks before each
        request."""
        return self._context.working_on(
            kind.name,
            len(jobs),
            is_urgent=_any_urgent(jobs),
            before_sending=lambda: _require_leases(jobs),
        )

    def _needs_second_answer(self, job: Job, outcome: Outcome) -> bool:
        """Whether to send the job a second time before its refusal counts.

        The first refusal may have come from another server at the same address, which was gone
        when the right system was recognised. A row that was refused earlier is only compared with
        the other system, so its job needs no second answer.
        """
        return _is_refusal(outcome) and job.row.refused_at is None

    def _verify_refusals(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Replaces refusals by a temporary error if the right system cannot be recognised now.

        A refused row is not tried again, so a refusal from another server must not count.
        """
        if not any(_is_refusal(outcome) for outcome in outcomes):
            return outcomes
        try:
            self._context.prove()
        except Exception as error:  # noqa: BLE001 - every job must have an outcome
            failure = as_known_error(error)
            return [
                Outcome(error=failure) if _is_refusal(outcome) else outcome for outcome in outcomes
            ]
        return outcomes

    def _send_many(self, kind: Kind, jobs: list[Job]) -> list[Result]:
        """Sends the jobs in one request. If the request is refused as a whole, sends each half by
        itself, and so on, until only the row that causes the refusal fails."""
        observers.requesting(kind.name, len(jobs))
        try:
            _require_leases(jobs)
            self._context.recognise()
            outcomes = self._verify_refusals(kind.act_many(jobs, self._context))
            return list(zip(jobs, outcomes, strict=True))
        except Exception as error:  # noqa: BLE001 - every job must have an outcome
            (outcome,) = self._verify_refusals([Outcome(error=as_known_error(error))])
            failure = outcome.error or as_known_error(error)
            if failure.failure_class is not FailureClass.REJECTED or len(jobs) == 1:
                return [(job, Outcome(error=failure)) for job in jobs]
        half = len(jobs) // 2
        return self._send_many(kind, jobs[:half]) + self._send_many(kind, jobs[half:])

    def _ask(self, question: Any) -> Any:
        """The database thread's answer to a job's question. Raises JobFailed while the pass is
        stopping, TimeoutError if there is no answer in time, and any error that the database thread
        raised."""
        if self._is_closed:
            raise JobFailed("The engine is stopping.")
        open_question = _Question(question)
        self._events.put(open_question)
        return open_question.answer.result(timeout=_ANSWER_SECONDS)

    # In the database thread

    def _collect(self) -> None:
        """Handles all events in the queue. Waits briefly for the first one, unless outcomes are
        ready to be written."""
        questions: list[_Question] = []
        try:
            seconds = 0.0 if self._is_flush_due() else _FLUSH_SECONDS
            event: _Question | _Finished | None = self._events.get(timeout=seconds)
        except queue.Empty:
            event = None
        while event is not None:
            if isinstance(event, _Question):
                questions.append(event)
            else:
                self._add_results(event.kind, event.results)
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                event = None
        if questions:
            self._answer(questions)
        if self.stop.is_set():
            self._drop_unsent()

    def _answer(self, questions: list[_Question]) -> None:
        """Answers all questions in one batch. If the batch fails, answers them one by one, so that
        only the job whose question cannot be answered fails."""
        try:
            answers = self._context.answers([question.question for question in questions])
        except (OperationalError, InterfaceError):
            raise  # the database does not answer, so no question is at fault
        except Exception as error:  # noqa: BLE001 - raised again in the job that asked
            if len(questions) == 1:
                questions[0].answer.set_exception(error)
                return
            for question in questions:
                self._answer([question])
            return
        for question, answer in zip(questions, answers, strict=True):
            question.answer.set_result(answer)

    def _add_results(self, kind: Kind, results: list[Result]) -> None:
        """Adds outcomes that are to be written."""
        if results:
            if not self._unwritten:
                self._oldest_unwritten_at = time.monotonic()
            self._unwritten.setdefault(kind, []).extend(results)

    def _is_flush_due(self) -> bool:
        """Whether to write outcomes now: there are enough, one is old or urgent, or every claimed
        row has its outcome."""
        rows = sum(len(results) for results in self._unwritten.values())
        if not rows:
            return False
        is_old = time.monotonic() - self._oldest_unwritten_at >= _FLUSH_SECONDS
        if rows >= _FLUSH_ROWS or is_old or rows == self._claimed_count():
            return True
        return any(_any_urgent(job for job, _ in results) for results in self._unwritten.values())

    def _flush(self) -> None:
        """Writes all interactive outcomes, and at most ``_MAX_ROWS_AT_A_TIME`` other outcomes."""
        capacity = _MAX_ROWS_AT_A_TIME
        for kind in list(self._unwritten):
            urgent = [(job, outcome) for job, outcome in self._unwritten[kind] if job.is_urgent]
            self._write(kind, urgent)
        for kind in list(self._unwritten):
            results = self._unwritten[kind][:capacity]
            capacity -= len(results)
            self._write(kind, results)

    def _flush_all(self) -> None:
        while self._unwritten:
            self._flush()

    def _write(self, kind: Kind, results: list[Result]) -> None:
        """Writes these outcomes, which ``_unwritten`` then no longer has, and reports them."""
        if results:
            job_ids = {id(job) for job, _ in results}  # a ``Job`` can't be hashed
            self._unwritten[kind] = [
                (job, outcome) for job, outcome in self._unwritten[kind] if id(job) not in job_ids
            ]
            if not self._unwritten[kind]:
                del self._unwritten[kind]
            saved_results = _write_outcomes(kind, results)
            claimed_jobs = self._claimed_jobs[kind]
            for job, _ in results:
                # A row whose lease had ended may be claimed again, by a newer job.
                if claimed_jobs.get(job.row.pk) is job:
                    del claimed_jobs[job.row.pk]
            self._update_gate(kind, results)
            self._report(kind.name, saved_results)

    def _update_gate(self, kind: Kind, results: list[Result]) -> None:
        """Closes the kind's gate after a systemic failure; opens it after a success. Also records
        whether an outage begins or ends."""
        outcomes = [outcome for _, outcome in results]
        outages.record_outcomes(kind.name, outcomes, self.state, other_system())
        gate = Gate(kind.name, self.state)
        if any(_is_systemic(outcome) for _, outcome in results):
            gate.close()
        elif any(outcome.error is None for _, outcome in results):
            gate.open()
        self._probing.discard(kind)

    def _renew_leases(self) -> None:
        """Renews the leases when a third of their length is over. A lease that another worker has
        taken over, for example while this process was suspended, ends for its job at once."""
        now = elapsed()
        if now - self._renewed_at < self._opts.lease_seconds / 3:
            return
        self._renewed_at = now
        for kind, jobs in self._claimed_jobs.items():
            if jobs:
                rows = [job.row for job in jobs.values()]
                renewed = renew(kind, rows, self._opts.lease_seconds)
                for job in jobs.values():
                    is_renewed = job.row.pk in renewed
                    job.lease_ends_at = now + self._opts.lease_seconds if is_renewed else now

    def _drop_unsent(self) -> None:
        """After a stop: releases rows whose jobs no thread has begun, since no thread will begin
        them."""
        finished_rows = {
            (kind, job.row.pk) for kind, results in self._unwritten.items() for job, _ in results
        }
        for kind, rows in self._unbegun_rows().items():
            unsent = [row for row in rows if (kind, row.pk) not in finished_rows]
            if unsent:
                release(kind, unsent)
            for row in unsent:
                self._claimed_jobs[kind].pop(row.pk, None)

    def _unbegun_rows(self) -> dict[Kind, list[Any]]:
        """Claimed rows whose jobs no thread has begun."""
        with self._begin_lock:
            return {
                kind: [job.row for job in jobs.values() if not job.is_begun]
                for kind, jobs in self._claimed_jobs.items()
            }

    def _has_stop_timed_out(self) -> bool:
        """Whether ``stop_seconds`` have passed since the pass was told to stop."""
        if not self.stop.is_set():
            return False
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self._opts.stop_seconds
        return time.monotonic() > self._stop_by

    def _abandon(self) -> None:
        """Called before the pass ends although outcomes are missing. Renews the leases of their
        rows a last time, because the other system may still receive the requests about them."""
        self._renewed_at = 0.0  # makes the leases due for renewal now
        self._renew_leases()
        log.info(
            "ended without an answer for %s rows; they are retried when their leases end",
            self._claimed_count(),
        )

    def _clean_up(self) -> None:
        """Cleans up, however the pass ended: fails the jobs that wait for an answer, and releases
        the rows whose jobs were not begun."""
        with self._begin_lock:
            self._is_closed = True
        while not self._events.empty():
            event = self._events.get_nowait()
            if isinstance(event, _Question):
                event.answer.set_exception(JobFailed("The engine is stopping."))
        for kind, rows in self._unbegun_rows().items():
            if rows:
                release(kind, rows)


def _write_outcomes(kind: Kind, results: list[Result]) -> list[Result]:
    """Writes the outcomes. If the database rejects one, only its row fails, as refused."""
    try:
        return write_back(kind, results)
    except (OperationalError, InterfaceError):
        raise  # the database does not answer, so no outcome is at fault
    except Exception as error:
        if len(results) == 1:
            job, _ = results[0]
            log.exception("The answer for %s %s can't be stored.", kind.name, job.display_name)
            return write_back(kind, [(job, Outcome(error=Unwritable(_unwritable_message(error))))])
    half = len(results) // 2
    return _write_outcomes(kind, results[:half]) + _write_outcomes(kind, results[half:])


def _unwritable_message(error: Exception) -> str:
    return (
        f"The LMS's answer can't be stored here ({type(error).__name__}). "
        "The log of the worker says more."
    )


def _require_leases(jobs: Iterable[Job]) -> None:
    """Raises LeaseEnded if the lease of any of these jobs has ended. Another worker may have
    claimed the row, and the desired state may have changed since."""
    if elapsed() >= min(job.lease_ends_at for job in jobs):
        raise LeaseEnded("The row's lease ended before the request was sent.")


def _outcome_of(act: Callable[[], Outcome]) -> Outcome:
    try:
        return act()
    except Exception as error:  # noqa: BLE001 - every job must have an outcome
        return Outcome(error=as_known_error(error))


def _record_in_span(span: Span, outcomes: Sequence[Outcome]) -> None:
    """Adds to the span how many rows changed and failed, and the first failure's code."""
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    changed = sum(outcome.error is None and outcome.changed for outcome in outcomes)
    span.set_attributes(usher__changed=changed, usher__failed=len(failed))
    if failed:
        span.fail(failed[0].code)


def _any_urgent(jobs: Iterable[Job]) -> bool:
    return any(job.is_urgent for job in jobs)


def _is_refusal(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.failure_class is FailureClass.REJECTED


def _is_systemic(outcome: Outcome) -> bool:
    return outcome.error is not None and outcome.error.failure_class is FailureClass.SYSTEMIC
