"""Simulates one seed: some minutes with failures, then hours without. At the end the application
and the LMS must agree."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest import mock

from simulation import application, threads
from simulation.event_log import EventLog
from simulation.invariants import InvariantBroken, Invariants
from simulation.lms import LmsData, SimulatedLms
from simulation.locks import Locks
from simulation.network import Connection, FaultRates, Network
from simulation.people import NAMES, RUN_COUNT, People
from simulation.records import OWN_COLUMNS, Records
from simulation.scheduler import Process, Scheduler
from simulation.substitution import substitutes

KINDS = tuple(OWN_COLUMNS)
#: Virtual seconds: how long failures happen, and how soon after them everything must be in sync.
FAULTS_END_AT, MAX_REST_SECONDS = 110.0, 4 * 3600.0
#: For how long a process may be suspended: shorter than a lease, and longer.
_PAUSE_SECONDS = (20.0, 70.0, 130.0)
#: A worker that resumes renews its leases within this many seconds.
_RENEWAL_SECONDS = 2.0


@dataclass
class SeedResult:
    """error: None if every invariant held. event_log: its lines, oldest first."""

    seed: int
    error: BaseException | None
    event_log: EventLog
    steps: int
    requests: int


def simulate(seed: int) -> SeedResult:
    """Simulate one seed. Raises no exception: a failure is the result's ``error``."""
    simulation = Simulation(seed)
    error: BaseException | None = None
    try:
        simulation.simulate()
    except Exception as raised:  # noqa: BLE001 - any error is the result of the seed
        error = raised
    requests = len(simulation.network.messages)
    return SeedResult(seed, error, simulation.event_log, simulation.scheduler.steps, requests)


class Simulator:
    """A context within which ``simulate`` may be called any number of times."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Simulator:
        application.set_up()
        self._stack.enter_context(_replace_real_world())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


_simulation: Simulation | None = None


def _current_simulation() -> Simulation:
    if _simulation is None:
        raise RuntimeError("no seed is being simulated")
    return _simulation


@contextmanager
def _replace_real_world() -> Iterator[None]:
    """Within the block, Usher's modules use the running seed's time, threads, network and client,
    and write no metrics. Each thread records the jobs that it processes. Other threads may run
    before each transaction, and after each that raised no exception."""
    from django.db.transaction import Atomic

    _import_everything()
    from usher.application import lms_client
    from usher.application.lms import options
    from usher.application.metrics import engine as metrics
    from usher.client.connection import opened_by
    from usher.engine import runner, services
    from usher.engine.kinds import Kind
    from usher.engine.registry import all_kinds

    real_options = options.options

    def options_of_process() -> Any:
        task = _current_simulation().scheduler.task
        use_batch_api = task.process.use_batch_api if task else True
        return replace(real_options(), use_batch_api=use_batch_api)

    further_substitutes = {
        lms_client.client: lambda: _current_simulation().client(),
        options.options: options_of_process,
    }
    enter, leave = Atomic.__enter__, Atomic.__exit__

    def enter_transaction(self: Atomic) -> None:
        if not _in_transaction():
            _current_simulation().scheduler.let_others_run()
        enter(self)

    def leave_transaction(self: Atomic, error_type: Any, error: Any, traceback: Any) -> Any:
        result = leave(self, error_type, error, traceback)  # type: ignore[func-returns-value]
        if not _in_transaction():
            _current_simulation().locks.transaction_ended()
            if error_type is None:
                _current_simulation().scheduler.let_others_run()
        return result

    with ExitStack() as stack:
        stack.enter_context(substitutes(further_substitutes))
        stack.enter_context(opened_by(lambda *_: Connection(_current_simulation().network)))
        stack.enter_context(mock.patch.object(metrics, "write", lambda: None))
        stack.enter_context(mock.patch.object(metrics, "write_if_due", lambda: None))
        # These two values determine only how often waiting code checks again.
        stack.enter_context(mock.patch.object(runner, "_FLUSH_SECONDS", 2.0))
        stack.enter_context(mock.patch.object(services, "_CHECK_SECONDS", 2.0))
        stack.enter_context(mock.patch.object(Atomic, "__enter__", enter_transaction))
        stack.enter_context(mock.patch.object(Atomic, "__exit__", leave_transaction))
        for kind in all_kinds().values():
            kind_class = type(kind)
            if kind_class is Kind:
                continue
            for name in ("act", "act_many"):
                if name in vars(kind_class):  # inherited methods stay as they are
                    act = _record_jobs(getattr(kind_class, name), is_act_many=name == "act_many")
                    stack.enter_context(mock.patch.object(kind_class, name, act))
        yield


def _import_everything() -> None:
    """Import all modules now: a module imported later would get the real time and real threads."""
    import usher.application
    import usher.client
    import usher.engine

    for package in (usher.client, usher.engine, usher.application):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." not in module.name:
                importlib.import_module(module.name)


def _record_jobs(act: Callable[..., Any], *, is_act_many: bool) -> Callable[..., Any]:
    """Wrap ``act`` or ``act_many`` of a kind, so that the current task records the jobs that it
    processes."""

    def act_recorded(self: Any, jobs: Any, context: Any) -> Any:
        task = _current_simulation().scheduler.task
        if task is None or task.jobs is not None:  # an outer call has recorded its jobs already
            return act(self, jobs, context)
        task.jobs = [(self.name, job) for job in (jobs if is_act_many else [jobs])]
        task.began = _current_simulation().scheduler.now
        try:
            return act(self, jobs, context)
        finally:
            task.jobs = None

    return act_recorded


def _in_transaction() -> bool:
    from django.db import connection

    return bool(connection.in_atomic_block)


class Simulation:
    """One simulation: the LMS, the network, the processes of the application, and people."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rng = random.Random(f"seed {number}")
        self.scheduler = Scheduler(number)
        self.event_log = EventLog(lambda: self.scheduler.now)
        threads.set_scheduler(self.scheduler)
        self.lms_data = LmsData()
        self.lms_data.add_runs(RUN_COUNT)
        #: Whether the LMS has the plugin ``usher.lms``, and so the batch API.
        self.has_plugin = self.rng.random() < 0.85
        lms = SimulatedLms(self.lms_data, delay=0.0, has_batch_api=self.has_plugin)
        self.network = Network(
            self.scheduler, lms, self.event_log, random.Random(f"network {number}")
        )
        lms.callbacks.callback_fails = lambda: self.rng.random() < self.network.fault_rates.callback
        self.records = Records()
        self.invariants = Invariants(
            self.scheduler, self.records, self.lms_data, self.network, self.event_log
        )
        self.people = People(self)
        self.processes: list[Process] = []
        #: Whether all processes share pauses and circuit breakers, as with Redis.
        self.share_state = self.rng.random() < 0.5
        #: The state of the first client, which all clients use if they share one.
        self.state: Any = None
        #: How many actions of visitors are still to come.
        self.actions_left = self.rng.randint(8, 18)
        self.faults_stopped = False
        #: The first error that was reported; it is raised after the current step.
        self.error: BaseException | None = None
        self.webhook_count = 0

    # The course of a seed

    def simulate(self) -> None:
        """Simulate the whole seed. Raises InvariantBroken, and any error of the code under test."""
        from django.db import connection

        global _simulation
        _simulation = self
        self.locks = Locks(
            self._tables(), self._is_worker_running, self.scheduler.let_others_run, self._report
        )
        self.network.report = self._report
        self.network.on_arrival, self.network.on_answer = (
            self.invariants.check_arrival,
            self.invariants.check_answer,
        )
        application.reset()
        with connection.execute_wrapper(self.locks), self.scheduler.ending_threads():
            self._prepare()
            self.scheduler.observe = self._after_step
            self.scheduler.run(
                lambda: self.scheduler.now >= FAULTS_END_AT and not self.actions_left
            )
            self._stop_faults()
            self.scheduler.run(self._is_at_rest)
            if not self._is_at_rest():  # ``run`` also returns when nothing can happen any more
                raise InvariantBroken(
                    "no thread can run: " + "; ".join(self.invariants.unsettled()[:5])
                )
            # The last recheck must have restored lost accounts, so they are compared as well.
            self.invariants.lost_accounts.clear()
            self.invariants.check_end()

    def _tables(self) -> dict[str, str]:
        from usher.engine.registry import all_kinds

        return {name: all_kinds()[name].model._meta.db_table for name in KINDS}

    def _is_worker_running(self) -> bool:
        """Whether the running thread belongs to a worker, not to a web process or beat."""
        task = self.scheduler.task
        return task is not None and task.process.name.startswith("worker")

    def _report(self, error: Exception) -> None:
        """Make the seed fail with this error after the current step, even if the code under test
        catches the exception."""
        self.error = self.error or error

    def _after_step(self) -> None:
        if self.error is not None:
            raise self.error
        self.invariants.check_step()

    def _is_at_rest(self) -> bool:
        """Whether everything is in sync, the last sweep was done and no request is in flight.
        Raises InvariantBroken if this takes too long."""
        # ``due_at`` is the earliest time of all rows. It is looked at first because it is at hand,
        # while ``unsettled`` looks at every row.
        if self.invariants.records.due_at < float("inf") and self.invariants.unsettled():
            if self.scheduler.now > FAULTS_END_AT + MAX_REST_SECONDS:
                raise InvariantBroken(
                    "not in sync after hours without failures: "
                    + "; ".join(self.invariants.unsettled()[:5])
                )
            return False
        return self.has_run_last_sweep and not any(
            message.in_flight for message in self.network.messages
        )

    # Preparation

    def _prepare(self) -> None:
        """Choose the strangers and the failures of this seed, and start the processes."""
        from simulation.lms import course_key
        from usher.application.runs.services import ensure_run

        for number in range(RUN_COUNT):
            ensure_run(course_key(number))
        for name in self.rng.sample(NAMES, self.rng.randint(0, 2)):
            email = self.rng.choice((f"{name}@learners.example", "somebody@else.example"))
            self.lms_data.add_stranger(name, email)
            self.event_log.add("LMS", f"a stranger has the account {name}, {email}")
        self.network.max_usual_seconds = self.rng.choice((0.2, 1.0, 5.0))
        severity = self.rng.choice((0.3, 1.0, 1.0, 2.0))  # multiplies the probabilities below
        self.network.fault_rates = FaultRates(
            lost_request=0.04 * severity,
            lost_answer=0.06 * severity,
            late_request=0.06 * severity,
            late_answer=0.02 * severity,
            failure=0.06 * severity,
            throttle=0.01 * severity,
            half_answer=0.02 * severity,
            callback=0.03 * severity,
        )
        for number in range(1, 5):
            self._start_worker(number)
        for number in (1, 2):
            web = self._add_process(f"web {number}")
            self.scheduler.spawn(web, partial(self._run_reporting_errors, self._run_visitors))
        self.has_run_last_sweep = False
        beat = self._add_process("beat")
        self.scheduler.spawn(beat, partial(self._run_reporting_errors, self._run_beat))
        self._plan_faults()

    def _add_process(self, name: str, *, use_batch_api: bool = True) -> Process:
        # Seconds by which the process's clock is wrong, up to two hours.
        ahead = self.rng.choice((0.0, 0.0, 0.05, -0.5, 90.0, -7200.0, 7200.0))
        process = Process(name, ahead, use_batch_api)
        process.own_objects |= {"stop": threads.Event()}
        self.processes.append(process)
        return process

    def _start_worker(self, number: int) -> None:
        use_batch_api = number <= 2  # half of the four workers use the public API
        worker = self._add_process(f"worker {number}", use_batch_api=use_batch_api)
        worker.own_objects["number"] = number
        self.event_log.add(worker, f"starts, {'batch' if use_batch_api else 'public'} API")
        self.scheduler.spawn(worker, partial(self._run_reporting_errors, self._run_worker))

    def client(self) -> Any:
        """The LMS client of the current process."""
        from usher.application import conf, lms_client

        task = self.scheduler.task
        # Checks between the steps belong to no process; they use a client of the simulation itself.
        owner = task.process.own_objects if task is not None else self.__dict__
        if "lms" not in owner:
            build = lms_client._client.__wrapped__
            if self.share_state and self.state is not None:
                with mock.patch.object(lms_client, "_state", lambda *_: self.state):
                    owner["lms"] = build(conf.settings(), redis="", per_second=0.0)
            else:
                owner["lms"] = build(conf.settings(), redis="", per_second=0.0)
                self.state = owner["lms"].http.state
        return owner["lms"]

    # Processes

    def _run_reporting_errors(self, act: Callable[[], None]) -> None:
        """Run ``act``; an error that ends the process fails the seed."""
        try:
            act()
        except Exception as error:  # noqa: BLE001 - raised again after the step
            self._report(error)

    def _run_worker(self) -> None:
        """What a worker does: passes until it is told to stop. Another worker then replaces it."""
        from usher.engine.services import reconcile

        task = self.scheduler.task
        assert task is not None
        worker = task.process
        stop = worker.own_objects["stop"]
        while not stop.is_set():
            self.scheduler.wait(
                lambda: stop.is_set() or self.records.due_at <= self.scheduler.now, 60.0
            )
            kinds, scope = self._choose_work()
            summary = reconcile(kinds, stop=stop, **scope)
            has_processed_rows = summary.changed + summary.failed > 0
            pause = self.rng.uniform(0.1, 1.0) if has_processed_rows else self.rng.uniform(3, 20)
            self.scheduler.wait(stop.is_set, pause)
        self.event_log.add(worker, "has stopped")
        self.scheduler.call_after(
            self.rng.uniform(0.5, 5), partial(self._start_worker, worker.own_objects["number"])
        )

    def _choose_work(self) -> tuple[list[str], dict[str, Any]]:
        """The kinds and the scope of a worker's next pass. They are all kinds, as for ``reconcile
        --watch``; or, as for a message to a Celery worker, the rows of one learner or the due
        kinds."""
        due_kinds = self.records.due_kinds(self.scheduler.now)
        draw = self.rng.random()
        if draw < 0.15:
            return list(KINDS), {}
        user_ids = sorted(
            row["user_id"]
            for kind in due_kinds
            for row in self.records.rows[kind].values()
            if row.get("user_id") and row["due_at"]
        )
        if draw < 0.4 and user_ids:
            kinds_of_learner = ["account", "token", "enrollment", "profile"]
            return kinds_of_learner, {"user": self.rng.choice(user_ids)}
        return due_kinds or ["account"], {}

    def _run_visitors(self) -> None:
        """What a web process does: actions of visitors, as long as some are left."""
        while self.actions_left:
            self.actions_left -= 1
            self.people.act_unless_deleted()
            self.scheduler.wait(None, self.rng.expovariate(1 / 12.0))  # 12 s on average

    def _run_beat(self) -> None:
        """Sweeps every minute, as Celery beat does; ends with a last sweep without failures."""
        from usher.engine.services import prepare_sweep

        while True:
            self.scheduler.wait(None, 60.0)
            is_last_sweep = self.faults_stopped and self._knows_batch_api()
            self.event_log.add("beat", "sweeps")
            prepare_sweep()
            if is_last_sweep:
                self._recheck_everything()
                return

    def _knows_batch_api(self) -> bool:
        """Whether the client knows that the LMS has the batch API; True also if the LMS has none.

        The last sweep must know it, since only the batch API finds changes that no message
        reported. A client that found no batch API does not ask again for some minutes.
        """
        from usher.client.batch import capabilities

        return not self.has_plugin or bool(capabilities(self.client()))

    def _recheck_everything(self) -> None:
        """Check everything that the worker could have missed, at the end and without failures."""
        from usher.application.runs.services import sync_runs
        from usher.engine.services import recheck

        sync_runs()
        recheck(["mode"])
        # Without the plugin, no sweep reads which enrollments changed in the LMS.
        if not self.has_plugin or self.invariants.lost_accounts:
            recheck(["enrollment"])
        if self.invariants.lost_accounts:
            recheck(["account"])
        # No change counts as unreported any more: the sweep and the recheck must notice all.
        self.invariants.unreported_changes.clear()
        self.has_run_last_sweep = True

    def notify(self, kind: str, username: str, key: str, *, must_arrive: bool = True) -> None:
        """Send a webhook of the LMS to the application, once or twice. username, key: the learner
        and the course run of the message, '' for none. must_arrive: False for a message that may be
        lost, and that an LMS without the plugin never sends."""
        from usher.application.webhooks.services import process_message

        if not must_arrive and (not self.has_plugin or self.rng.random() < 0.3):
            return
        self.webhook_count += 1
        event_id = f"event-{self.webhook_count}"

        def deliver() -> None:
            self.event_log.add("LMS", f"message {kind} {username}")
            self.invariants.deliver_webhook(lambda: process_message(event_id, kind, username, key))
            self.invariants.unreported_changes.discard((username, key))
            self.invariants.check_nothing_is_forgotten()

        for _ in range(self.rng.choice((1, 1, 2))):
            self.scheduler.call_after(self.rng.uniform(0.2, 10), deliver)

    # Faults

    def _plan_faults(self) -> None:
        """Choose what else happens in this seed, and when: faults, and changes in the LMS."""
        # An action that is listed several times is chosen more often.
        actions = (
            self._kill,
            self._kill,
            self._stop,
            self._stop,
            self._pause,
            self._pause,
            self._start_impostor,
            self._start_impostor,
            self._restart_lms,
            self._lose_plugin,
            self.people.act_in_lms,
            self.people.act_in_lms,
            self.people.act_in_lms,
            self.people.act_in_lms,
            self._send_needless_webhooks,
        )
        for _ in range(self.rng.randint(5, 12)):
            self.scheduler.call_at(self.rng.uniform(2, FAULTS_END_AT), self.rng.choice(actions))

    def _running_workers(self) -> list[Process]:
        """Workers that are neither dead, nor told to stop, nor suspended."""
        return [
            process
            for process in self.processes
            if process.name.startswith("worker")
            and not process.is_dead
            and not process.own_objects["stop"].is_set()
            and process.paused_until < self.scheduler.now
        ]

    def _choose_process(self, workers: list[Process], retry: Callable[[], None]) -> Process | None:
        """A random process of ``workers``, preferably one that waits for the LMS. If no process
        waits for the LMS, mostly returns None and calls ``retry`` a little later."""
        if not workers or self.faults_stopped:
            return None
        waiting = [worker for worker in workers if worker in self.network.senders()]
        if not waiting and self.rng.random() < 0.8:
            self.scheduler.call_after(self.rng.uniform(0.5, 3), retry)
            return None
        return self.rng.choice(waiting or workers)

    def _kill(self) -> None:
        # A worker that resumes at the end of its lease may send a request before it renews the
        # lease. If it were killed in between, the request might arrive after the lease.
        latest_resumption = self.scheduler.now - _RENEWAL_SECONDS
        workers = [
            worker for worker in self._running_workers() if worker.paused_until < latest_resumption
        ]
        if not (victim := self._choose_process(workers, self._kill)):
            return
        self.event_log.add(victim, "is killed")
        self.scheduler.kill(victim)
        self.scheduler.call_after(
            self.rng.uniform(0.5, 20), partial(self._start_worker, victim.own_objects["number"])
        )

    def _stop(self) -> None:
        """Tell a worker to stop, as by SIGTERM, preferably one that waits for the LMS; see
        ``_choose_process``."""
        if victim := self._choose_process(self._running_workers(), self._stop):
            self.event_log.add(victim, "is told to stop")
            victim.own_objects["stop"].set()

    def _pause(self) -> None:
        """Suspend a worker, as by SIGSTOP, or try again a little later (``_choose_process``)."""
        if victim := self._choose_process(self._running_workers(), self._pause):
            seconds = self.rng.choice(_PAUSE_SECONDS)
            self.event_log.add(victim, f"is suspended for {seconds:.0f} s")
            victim.paused_at = self.scheduler.now
            victim.paused_until = self.scheduler.now + seconds

    def _start_impostor(self) -> None:
        """For some virtual seconds from now on, another server answers at the LMS's address, such
        as a proxy with an error page."""
        from tests.support import impostors

        candidates = [
            impostor
            for impostor in (
                *impostors.PROXIES,
                *impostors.PAGES,
                *impostors.APPLICATIONS,
                *impostors.MIGRATIONS,
            )
            # The model sends whole answers, and does not need the real LMS's answer.
            if impostor.spoil is None and not impostor.drip
        ]
        self.network.impostor = impostor = self.rng.choice(candidates)
        self.event_log.add("LMS", f"something else answers at its address: {impostor.name}")
        self.scheduler.call_after(self.rng.uniform(2, 40), self._end_impostor)

    def _end_impostor(self) -> None:
        self.network.impostor = None
        self.event_log.add("LMS", "answers itself again")

    def _restart_lms(self) -> None:
        """Restart the LMS: for some seconds, nothing answers at its address."""
        self.network.is_down = True
        self.event_log.add("LMS", "restarts")

        def end_restart() -> None:
            self.network.is_down = False
            self.event_log.add("LMS", "is back")

        self.scheduler.call_after(self.rng.uniform(1, 30), end_restart)

    def _lose_plugin(self) -> None:
        """The LMS lacks the batch API for some seconds, as after an update without the plugin."""
        api = self.network.lms.batch_api
        if self.has_plugin:
            api.has_plugin = False
            self.event_log.add("LMS", "has no batch API any more")

            def restore_plugin() -> None:
                api.has_plugin = True
                self.event_log.add("LMS", "has the batch API again")

            self.scheduler.call_after(self.rng.uniform(5, 60), restore_plugin)

    def _send_needless_webhooks(self) -> None:
        """Send webhooks of the LMS about rows that did not change."""
        enrollments = sorted(self.lms_data.enrollments) or [("nobody", "")]
        refused = [
            tuple(subject.split(" in "))
            for kind, subject in sorted(self.lms_data.refused)
            if kind == "enrollment"
        ]
        username, key = self.rng.choice(enrollments + refused)
        self.notify("enrollment.changed", username, key)
        self.notify("account.changed", username, key="")

    def _stop_faults(self) -> None:
        """End all failures: the network, the LMS and all suspended processes work again."""
        self.event_log.add("", "no more failures from here on")
        self.network.fault_rates = FaultRates()
        self.network.impostor, self.network.is_down = None, False
        self.network.lms.batch_api.has_plugin = self.has_plugin
        for process in self.processes:
            process.paused_until = min(process.paused_until, self.scheduler.now)
        self.faults_stopped = True
