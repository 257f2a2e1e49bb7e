"""Measures the batch API of the embedded LMS on MariaDB. This LMS locks rows as the platform does
and needs as much time, so it is used in place of a real LMS. The batch API is compared with its
earlier version, which had one transaction for each request, and with single requests to the public
API."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.earlier import batch_api_in_long_transactions
from benchmarks.lms_load import (
    ACCOUNTS,
    DEFAULT_PAGE,
    ENROLLMENTS,
    PREFIX,
    Load,
    accounts,
    enrollments,
)
from benchmarks.mariadb import MariaDb, mariadb
from usher.embedded.home import folder as folders
from usher.embedded.home.process import free_port, running_lms

TOKEN = "token-of-the-benchmark-" + "1" * 30
#: The runs that ``seed_courses`` creates.
RUNS = ["course-v1:edX+DemoX+Demo_Course", "course-v1:edX+E2E-101+course"]
_UNUSED_URL = "http://127.0.0.1:9"  # no webhooks are sent
#: For ``usher_provision``.
DESCRIPTION = {
    "service_worker": {"username": "worker", "email": "worker@example.org", "token": TOKEN},
    "applications": [
        {
            "name": "benchmark",
            "backend": "mitxpro-oauth2",
            "provider_name": "Benchmark",
            "client_id": "lms",
            "client_secret": "secret-of-the-lms",
            "authorization_url": f"{_UNUSED_URL}/oauth2/authorize/",
            "access_token_url": f"{_UNUSED_URL}/oauth2/token/",
            "api_root": _UNUSED_URL,
            "logout_url": f"{_UNUSED_URL}/logout/",
            "oauth_name": "benchmark",
            "oauth_client_id": "benchmark-at-the-lms",
            "oauth_client_secret": "secret-at-the-lms",
            "oauth_redirect_uris": [f"{_UNUSED_URL}/complete"],
        }
    ],
}


def lms_on_mariadb(rounds: int, items: int) -> dict[str, Any]:
    """Measures with two concurrent requests. Returns a dict:

    - medians of the rounds: accounts with tokens a second, enrollments a second, and as
      ``over_one_by_one`` how many times faster the batch API enrolls than single requests;
    - ``over_before``: how many times faster than the earlier batch API, the lower of the ratios for
      accounts and for enrollments; None without the repository's history;
    - the numbers of failed requests, with the earlier batch API as ``failed_before``, of deadlocks
      that InnoDB counted, and of refused items.
    """
    with ExitStack() as stack:
        server = stack.enter_context(mariadb("usher_test", "usher_test_before"))
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="usher-bench-")))
        current = stack.enter_context(_serve(server, "usher_test", base))
        source = batch_api_in_long_transactions(base / "source")
        earlier = None
        if source is not None:
            earlier = stack.enter_context(_serve(server, "usher_test_before", base, source))
        results = [_round(current, earlier, number, items) for number in range(rounds)]
        figures = medians(results)
        accounts_over_before = figures.pop("accounts_over_before")
        enrollments_over_before = figures.pop("enrollments_over_before")
        over_before = None
        if accounts_over_before and enrollments_over_before:
            over_before = min(accounts_over_before, enrollments_over_before)
        return {
            **figures,
            "over_before": over_before,
            "failed": current.failed,
            "failed_before": earlier.failed if earlier is not None else None,
            "deadlocks": server.deadlocks(),
            "refused": len(current.refused),
        }


def medians(rounds: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Name of a figure → its median over the rounds; None if a round has no such figure."""
    result: dict[str, float | None] = {}
    for name in rounds[0]:
        values = []
        for figures in rounds:
            value = figures[name]
            if value is not None:
                values.append(value)
        is_complete = len(values) == len(rounds)
        result[name] = statistics.median(values) if is_complete else None
    return result


def _round(current: Load, earlier: Load | None, number: int, items: int) -> dict[str, Any]:
    """The figures of one round. earlier: the LMS with the earlier batch API, if there is one."""
    learners = accounts(items, f"{PREFIX}{number}-")
    items_to_enroll = enrollments(items, learners, RUNS[:1], "audit")
    # A few enrollments in the second run, which are not among ``items_to_enroll``.
    single = enrollments(max(items // 20, 10), learners, RUNS[1:], "audit")
    creation = current.send_and_measure(ACCOUNTS, learners)
    enrolling = current.send_and_measure(ENROLLMENTS, items_to_enroll)
    accounts_over_before = enrollments_over_before = None
    if earlier is not None:
        earlier_creation = earlier.send_and_measure(ACCOUNTS, learners)
        earlier_enrolling = earlier.send_and_measure(ENROLLMENTS, items_to_enroll)
        accounts_over_before = round(creation["a_second"] / earlier_creation["a_second"], 2)
        enrollments_over_before = round(enrolling["a_second"] / earlier_enrolling["a_second"], 2)
    return {
        "accounts_a_second": creation["a_second"],
        "enrollments_a_second": enrolling["a_second"],
        "accounts_over_before": accounts_over_before,
        "enrollments_over_before": enrollments_over_before,
        "over_one_by_one": round(enrolling["a_second"] / _one_by_one(current.client, single), 1),
        "page_p95": enrolling.get("page_p95"),
    }


def _one_by_one(client: httpx.Client, items: list[dict[str, Any]]) -> float:
    """Enrollments a second with one request of the public API for each."""
    started = time.monotonic()
    for item in items:
        body = {
            "user": item["username"],
            "mode": item["mode"],
            "course_details": {"course_id": item["course_id"]},
        }
        client.post("/api/enrollment/v1/enrollment", json=body).raise_for_status()
    return len(items) / (time.monotonic() - started)


@contextmanager
def _serve(
    server: MariaDb, database: str, base: Path, source: Path | None = None
) -> Iterator[Load]:
    """Starts an LMS on this database, connected and with course runs. Yields its load. source: the
    folder of the code; None for today's."""
    port = free_port()
    plan = folders.Plan(
        root_url=f"http://127.0.0.1:{port}",
        settings={
            "USHER_BACKENDS": {"mitxpro-oauth2": "mitxpro-oauth2"},
            "DATABASE_URL": server.url(database),
            "PLATFORM_COSTS": True,
            "ATOMIC_REQUESTS": True,
            # No rate limit for the single requests.
            "API_THROTTLE_RATES": {"enrollment": {"user": None, "staff": None}},
        },
        cheap_passwords=True,
    )
    variables = {"PYTHONPATH": str(source)} if source is not None else {}
    folder = base / database
    folders.write(folder, plan)
    _manage(folder, variables, *folders.PREPARE)
    _manage(folder, variables, "seed_courses")
    _manage(folder, variables, "usher_provision", "--file", "-", text=json.dumps(DESCRIPTION))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        running_lms(folder, port, variables) as url,
        httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client,
    ):
        # 25 items are one transaction of the batch API.
        yield Load(client, batch=25, concurrency=2, page=DEFAULT_PAGE)


def _manage(folder: Path, variables: dict[str, str], *arguments: str, text: str = "") -> None:
    result = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=folder,
        env={**folders.environment(folder), **variables},
        input=text,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {result.stderr[-2000:]}")
