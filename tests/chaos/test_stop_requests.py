"""A real worker is stopped while the LMS is slow, with Ctrl-C for ``reconcile --watch`` and SIGTERM
for Celery. The worker waits for the answers to its requests, and no row stays claimed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from benchmarks.processes import ROOT, Process, free_port, wait_for
from benchmarks.remote_module import RemoteModule
from benchmarks.services import Services, control, running_services

from benchmarks import application
from usher.cli.demo.database import copy_migrated

pytestmark = pytest.mark.slow

#: Learners of the application, each with one enrollment that is due.
LEARNER_COUNT = 60
#: Requests that a worker sends concurrently: few, so that a stopped worker has not sent them all.
CONCURRENCY = 5
#: Timeout in seconds of a step that starts a process or waits for the LMS.
TIMEOUT_SECONDS = 120
USERNAME_PREFIX = "stop"
#: Seconds that the LMS needs for an answer while the worker is stopped.
LMS_SECONDS = 2.0
ENROLL = "POST /api/enrollment/v1/enrollment"


class WorkerProgram(NamedTuple):
    """A Python module with its arguments, and the signal with which an operator stops it."""

    module: str
    arguments: tuple[str, ...]
    stop_signal: signal.Signals


WORKERS = {
    "watch": WorkerProgram("manage", ("reconcile", "--watch"), signal.SIGINT),
    "celery": WorkerProgram(
        "celery",
        ("-A", "campus.worker", "worker", "--concurrency", "1", "--loglevel", "INFO"),
        signal.SIGTERM,
    ),
}


@dataclass
class Installation:
    """The running servers, with an application that has ``LEARNER_COUNT`` enrollments to send.
    application: a process of the application that calls functions of ``benchmarks.ours``."""

    services: Services
    lms_url: str
    env: dict[str, str]
    application: RemoteModule

    def start_worker(self, name: str, *, log_name: str) -> Process:
        """Starts the worker ``name`` of ``WORKERS``. log_name: distinguishes the workers of one
        test."""
        program = WORKERS[name]
        worker = self.services.module(log_name, program.module, program.arguments, self.env)
        if name == "celery":
            wait_for(lambda: " ready." in worker.log, "the worker's start", TIMEOUT_SECONDS)
            # In production, Celery beat starts the sweep that sends due enrollments.
            self.application.call("sweep")
        return worker

    @property
    def enroll_requests(self) -> int:
        """Number of enrollment requests that the LMS received."""
        return int(control(self.lms_url, "counts")["requests"].get(ENROLL, 0))

    @property
    def enrollments(self) -> int:
        """Number of enrollments in the LMS."""
        return len(control(self.lms_url, "dump")["enrollments"])

    @property
    def unsettled(self) -> int:
        """Number of the application's enrollments that are not in sync."""
        return int(
            self.application.call("count_unsettled", username_prefix=USERNAME_PREFIX)["answer"]
        )

    @property
    def claimed(self) -> int:
        """Number of enrollments that a worker has claimed."""
        return int(self.application.call("count_claimed")["answer"])


@pytest.fixture(params=WORKERS)
def installation_and_worker(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[Installation, str]]:
    """An installation whose learners have accounts in the LMS, and the name in ``WORKERS`` of the
    worker to start. No worker is running."""
    with running_services() as services:
        _, redis_url = services.redis()
        port, lms_port = free_port(), free_port()
        lms_url = f"http://127.0.0.1:{lms_port}"
        application.serve_lms(services, lms_port, port, "--runs", 10, "--no-batch")
        home = services.folder / "application"
        home.mkdir()
        database = home / "campus.sqlite3"
        copy_migrated(ROOT / "campus", database)
        env = application.environment(home, port, lms_url, f"sqlite:///{database}") | {
            "REDIS_URL": redis_url,
            "USHER_USE_BATCH_API": "false",
            "USHER_CONCURRENCY": str(CONCURRENCY),
        }
        # The learners stop0, stop1 and so on.
        usernames = f"{USERNAME_PREFIX}{{}}"
        learners: dict[str, Any] = {"username_pattern": usernames, "first": 0, "end": LEARNER_COUNT}
        with RemoteModule("benchmarks.ours", env) as application_process:
            call = application_process.call
            call("create_runs", keys=["course-v1:BenchX+C00000+2026_T1"])
            call("create_learners", **learners)
            call("create_accounts", **learners)
            control(lms_url, "accounts", **learners)  # creates the learners' accounts in the LMS
            call("delete_due_work")  # so that only the enrollments are due
            call("create_enrollments", **learners, enrollments_each=1)
            yield Installation(services, lms_url, env, application_process), request.param


def test_a_stopped_worker_awaits_answers_to_sent_requests_and_releases_its_claims(
    installation_and_worker: tuple[Installation, str],
) -> None:
    installation, name = installation_and_worker
    control(installation.lms_url, "delay", seconds=LMS_SECONDS)
    worker = installation.start_worker(name, log_name=f"stopped-{name}")
    wait_for(
        lambda: installation.enroll_requests > 0, "the first request to enroll", TIMEOUT_SECONDS
    )

    worker.process.send_signal(WORKERS[name].stop_signal)
    worker.process.wait(TIMEOUT_SECONDS)

    # The results of sent requests are recorded, and all other rows are due.
    assert installation.enrollments == LEARNER_COUNT - installation.unsettled
    assert 0 < installation.enrollments <= installation.enroll_requests < LEARNER_COUNT
    assert installation.claimed == 0, worker.log

    control(installation.lms_url, "delay", seconds=0.0)
    installation.start_worker(name, log_name=f"next-{name}")
    wait_for(
        lambda: installation.unsettled == 0,
        "all enrollments in sync after the next worker's start",
        TIMEOUT_SECONDS,
    )
    # No enrollment was sent twice.
    assert installation.enroll_requests == installation.enrollments == LEARNER_COUNT
