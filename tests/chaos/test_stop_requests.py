"""A real worker is stopped while the LMS is slow, with Ctrl-C for ``reconcile --watch`` and SIGTERM
for Celery. The worker waits for the answers to its requests, and no row stays claimed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from benchmarks.contender import Contender
from benchmarks.processes import ROOT, Process, free_port, wait_for
from benchmarks.services import Services, control, running_services

from benchmarks import application
from usher.cli.demo.database import copy_migrated

pytestmark = pytest.mark.slow

#: Number of due enrollments, and number of requests that a worker sends concurrently.
DUE, CONCURRENCY = 60, 5
#: Seconds that the LMS needs for an answer while the worker is stopped.
LMS_SECONDS = 2.0
ENROLL = "POST /api/enrollment/v1/enrollment"
WORKERS = {
    "watch": ("manage", ("reconcile", "--watch"), signal.SIGINT),
    "celery": (
        "celery",
        ("-A", "campus.worker", "worker", "--concurrency", "1", "--loglevel", "INFO"),
        signal.SIGTERM,
    ),
}


@dataclass
class Installation:
    """The running servers, with an application that has ``DUE`` enrollments to send."""

    services: Services
    lms_url: str
    env: dict[str, str]
    contender: Contender

    def start_worker(self, name: str, number: int) -> Process:
        module, arguments, _ = WORKERS[name]
        worker = self.services.module(f"{name}{number}", module, arguments, self.env)
        if name == "celery":
            wait_for(lambda: " ready." in worker.log, "the worker's start", 120)
            self.contender.call("sweep")
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
        return int(self.contender.call("count_unsettled", names="stop")["answer"])

    @property
    def claimed(self) -> int:
        """Number of enrollments that a worker has claimed."""
        return int(self.contender.call("count_claimed")["answer"])


@pytest.fixture(params=WORKERS)
def installation_and_worker(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[Installation, str]]:
    """An installation, and the name in ``WORKERS`` of the worker to start."""
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
        learners: dict[str, Any] = {"names": "stop{}", "first": 0, "end": DUE}
        with Contender("benchmarks.ours", env) as contender:
            contender.call("create_runs", keys=["course-v1:BenchX+C00000+2026_T1"])
            contender.call("create_learners", **learners)
            contender.call("create_accounts", **learners)
            control(lms_url, "accounts", name="stop{}", first=0, end=DUE)
            contender.call("delete_due_work")
            contender.call("create_enrollments", **learners, each=1)
            yield Installation(services, lms_url, env, contender), request.param


def test_a_stopped_worker_awaits_answers_to_sent_requests_and_releases_its_claims(
    installation_and_worker: tuple[Installation, str],
) -> None:
    installation, name = installation_and_worker
    control(installation.lms_url, "delay", seconds=LMS_SECONDS)
    worker = installation.start_worker(name, 1)
    wait_for(lambda: installation.enroll_requests > 0, "the first request to enroll", 120)

    worker.process.send_signal(WORKERS[name][2])
    worker.process.wait(60)

    # The results of sent requests are recorded, and all other rows are due.
    assert installation.enrollments == DUE - installation.unsettled
    assert 0 < installation.enrollments <= installation.enroll_requests < DUE
    assert installation.claimed == 0, worker.log

    control(installation.lms_url, "delay", seconds=0.0)
    installation.start_worker(name, 2)
    wait_for(
        lambda: installation.unsettled == 0,
        "all enrollments in sync after the next worker's start",
        120,
    )
    assert (
        installation.enroll_requests == installation.enrollments == DUE
    )  # no enrollment was sent twice
