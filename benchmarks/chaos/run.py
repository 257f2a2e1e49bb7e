"""The harness: starts the application and the LMS, causes faults, and waits until all rows are
settled or refused."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import application
from benchmarks.chaos.clock import VARIABLE
from benchmarks.processes import Process, free_port, wait_for
from benchmarks.remote_module import RemoteModule
from benchmarks.services import PostgreSQL, Services, running_services

#: Number of course runs in the LMS.
RUN_COUNT = 40
#: Seconds of a lease.
LEASE_SECONDS = 5.0
#: Seconds of the application's timeout for a request.
TIMEOUT_SECONDS = 2.0
#: Arguments of ``celery``.
_WORKER = ("-A", "campus.worker", "worker", "--concurrency", "1", "--loglevel", "INFO")
#: Seconds between two sweeps, if ``pause_divisor`` is 1.
_SECONDS_BETWEEN_SWEEPS = 3.0
_TWO_HOURS = 7200
#: Seconds between two lines about unfinished rows.
_SECONDS_BETWEEN_REPORTS = 15.0
#: Seconds between two manual retries.
_SECONDS_BETWEEN_RETRIES = 60.0


@dataclass(frozen=True)
class Plan:
    """What a chaos test does. faults: the fraction of answers to spoil. limit: seconds until every
    row must be settled or refused."""

    operations: int = 10_000
    workers: int = 4
    kills: int = 20
    faults: float = 0.3
    seed: int = 1
    #: Divides the pauses between attempts.
    pause_divisor: float = 1.0
    limit: float = 1800.0


def run(plan: Plan, report: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Causes the faults, and returns the result of ``verdict.compare_with_lms``, with
    ``worker_kills``, ``proxy`` (its counts) and the ``seconds`` that everything took. report: is
    called with each line about the progress."""
    with running_services() as services, ExitStack() as stack:
        return ChaosTest(plan, services, report).perform(stack)


class ChaosTest:
    """One execution of a plan. paused: the worker that is suspended now, if any. finished: set when
    all rows are settled or refused; it ends the sweeps."""

    def __init__(self, plan: Plan, services: Services, report: Callable[[str], None]) -> None:
        self.plan, self.services, self.report = plan, services, report
        self.rng = random.Random(plan.seed)
        self.kills = 0
        self.workers: list[Process] = []
        self.paused: Process | None = None
        self.finished = threading.Event()

    def perform(self, stack: ExitStack) -> dict[str, Any]:
        """Performs the operations with faults and waits for the workers. Returns the verdict."""
        self._start()
        people = stack.enter_context(
            RemoteModule("benchmarks.chaos.people", self._env_with_movable_clock)
        )
        people.call(
            "begin",
            seed=self.plan.seed,
            lms_url=self.lms_url,
            runs=[f"course-v1:BenchX+C{number:05}+2026_T1" for number in range(RUN_COUNT)],
            strangers=max(1, self.plan.operations // 50),
        )
        sweeper = threading.Thread(target=self._sweep, daemon=True)
        sweeper.start()
        started = time.monotonic()
        self._perform_with_faults(people)
        self.report(f"all operations performed after {time.monotonic() - started:.0f} s")
        self._wait_until_settled(people)
        self.report(f"settled after {time.monotonic() - started:.0f} s")
        self.finished.set()
        sweeper.join()
        verdict: dict[str, Any] = people.call("compare_with_lms", lms_url=self.lms_url)["answer"]
        verdict["worker_kills"] = self.kills
        verdict["proxy"] = self._ask_proxy("counts")
        verdict["seconds"] = round(time.monotonic() - started, 1)
        requests = verdict["proxy"]["requests"]
        spoiled = verdict["proxy"].get("spoiled", 0)
        self.report(f"{requests} requests to the LMS, {spoiled} of them spoiled")
        return verdict

    # Start

    def _start(self) -> None:
        """Starts all servers, the proxy and the workers."""
        self.postgresql: PostgreSQL = self.services.postgresql()
        self.redis, redis_url = self.services.redis()
        application_port = free_port()
        self._start_lms_and_proxy(application_port)
        self._start_application(application_port, redis_url)
        self._start_workers()

    def _start_lms_and_proxy(self, application_port: int) -> None:
        lms_port, proxy_port = free_port(), free_port()
        self.lms_url = f"http://127.0.0.1:{lms_port}"
        self.proxy_url = f"http://127.0.0.1:{proxy_port}"
        application_url = f"http://localhost:{application_port}"
        lms_options = ("--delay", 0.01, "--runs", RUN_COUNT, "--call-back", application_url)
        application.serve_lms(self.services, lms_port, application_port, *lms_options)
        ports = ["--port", str(proxy_port), "--lms-port", str(lms_port)]
        faults = ["--share", str(self.plan.faults), "--hold", str(TIMEOUT_SECONDS + 1)]
        seed = ["--seed", str(self.plan.seed)]
        arguments = [*ports, *faults, *seed]
        proxy = self.services.module("proxy", "benchmarks.chaos.proxy", arguments, {})
        proxy.wait_for_port(proxy_port)

    def _start_application(self, port: int, redis_url: str) -> None:
        home = self.services.folder / "application"
        home.mkdir()
        self.env = application.environment(
            home,
            port,
            self.proxy_url,
            self.postgresql.url("chaos"),
            REDIS_URL=redis_url,
            EDX_API_CLIENT_TIMEOUT=str(TIMEOUT_SECONDS),
            USHER_LEASE_SECONDS=str(LEASE_SECONDS),
            USHER_CONCURRENCY="16",
            CHAOS_PAUSE_DIVISOR=str(self.plan.pause_divisor),
        )
        application.prepare(self.env, self.proxy_url)
        application.serve(self.services, "application", "campus.wsgi:application", port, self.env)

    def _start_workers(self) -> None:
        """Starts the workers, and waits until all are ready."""
        for number in range(self.plan.workers):
            # Half of the workers use the batch API, and their clock can be changed. The others use
            # the public API and the machine's clock.
            is_even = number % 2 == 0
            env = self._env_with_movable_clock if is_even else self.env
            env = env | {"USHER_USE_BATCH_API": str(is_even)}
            name = f"worker{number}"
            arguments = [*_WORKER, "-n", f"{name}@chaos"]
            worker = self.services.module(name, "benchmarks.chaos.worker", arguments, env)
            self.workers.append(worker)
        wait_for(
            lambda: all(" ready." in worker.log for worker in self.workers), "the workers' start"
        )

    @property
    def _env_with_movable_clock(self) -> dict[str, str]:
        """Environment variables of a process whose clock ``_move_clock`` changes."""
        return self.env | {VARIABLE: str(self._clock_file)}

    @property
    def _clock_file(self) -> Path:
        return self.services.folder / "clock"

    def _sweep(self) -> None:
        """Sends sweeps as beat does, but always two at the same time."""
        pause = _SECONDS_BETWEEN_SWEEPS / max(1.0, self.plan.pause_divisor)
        with RemoteModule("benchmarks.chaos.people", self.env) as beat:
            while not self.finished.wait(pause):
                beat.call("sweep_twice")

    # Faults

    def _perform_with_faults(self, people: RemoteModule) -> None:
        """Performs the operations in parts, and kills a worker after each part. Some parts have
        another fault, which begins with their operations."""
        steps = max(self.plan.kills, 8)  # with 8 steps, each of the other faults has its own
        counts = [self.plan.operations // steps] * steps
        counts[-1] += self.plan.operations % steps
        # Number of a step → the fault that begins with the operations of this step.
        other_faults: dict[int, Callable[[], None]] = {
            1: self._pause_a_worker,
            2: lambda: self._move_clock(_TWO_HOURS),
            steps // 2 - 1: self._restart_postgresql,
            steps // 2: lambda: self._move_clock(-_TWO_HOURS),
            steps // 2 + 1: self._restart_redis,
            steps - 2: self._pause_a_worker,
            steps - 1: lambda: self._move_clock(0),
        }
        for step, count in enumerate(counts):
            cause_fault = other_faults.get(step, lambda: None)
            fault = threading.Thread(target=cause_fault)
            fault.start()
            people.call("perform", count=count)
            fault.join()
            if self.kills < self.plan.kills:
                self._kill_a_worker()
        self._resume()

    def _kill_a_worker(self) -> None:
        """Kills a worker that is not suspended, and starts it again."""
        candidates = [worker for worker in self.workers if worker is not self.paused]
        worker = self.rng.choice(candidates)
        worker.send_signal(signal.SIGKILL)
        worker.restart()
        self.kills += 1

    def _pause_a_worker(self) -> None:
        """Suspends a worker for longer than a lease. Meanwhile other workers claim the rows of the
        suspended worker."""
        self._resume()  # at most one worker is suspended at a time
        self.paused = self.rng.choice(self.workers)
        self.report(f"{self.paused.name} is suspended for {LEASE_SECONDS * 2:.0f} s")
        self.paused.send_signal(signal.SIGSTOP)
        self._resume_timer = threading.Timer(LEASE_SECONDS * 2, self._resume)
        self._resume_timer.start()

    def _resume(self) -> None:
        if self.paused is not None:
            self.paused.send_signal(signal.SIGCONT)
            self.paused = None

    def _move_clock(self, seconds: int) -> None:
        """Makes the movable clocks differ from the machine's clock by this many seconds."""
        self.report(f"clocks jump to {seconds:+} s")
        self._clock_file.write_text(str(seconds))

    def _restart_postgresql(self) -> None:
        self.report("PostgreSQL restarts")
        self.postgresql.restart()

    def _restart_redis(self) -> None:
        self.report("Redis is killed and starts empty")
        self.redis.send_signal(signal.SIGKILL)
        self.redis.restart()

    # End

    def _wait_until_settled(self, people: RemoteModule) -> None:
        """Waits until every row is settled or refused, or ``plan.limit`` has passed.

        Once a minute, rows that wait for their next attempt are retried, as support staff would: an
        LMS that spoils 30% of its answers until the end makes some rows wait for a quarter of an
        hour.
        """
        started_at = reported_at = retried_at = time.monotonic()
        settled_counts = 0  # consecutive counts that found no unfinished row; the wait ends at two
        while settled_counts < 2:
            unfinished = people.call("count_unfinished")["answer"]
            if not unfinished:
                settled_counts += 1
                time.sleep(0.5)
                continue
            settled_counts = 0
            now = time.monotonic()
            if now > started_at + self.plan.limit:
                self.report(f"not settled in time: {unfinished}")
                return
            if now > reported_at + _SECONDS_BETWEEN_REPORTS:
                reported_at = now
                self.report(f"not settled yet: {unfinished}")
            if now > retried_at + _SECONDS_BETWEEN_RETRIES:
                retried_at = now
                count = people.call("retry_waiting")["answer"]
                self.report(f"{count} rows retried by hand")
            time.sleep(0.5)

    def _ask_proxy(self, name: str) -> Any:
        with urllib.request.urlopen(f"{self.proxy_url}/proxy/{name}") as answer:
            return json.load(answer)
