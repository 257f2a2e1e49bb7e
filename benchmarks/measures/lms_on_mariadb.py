"""The batch API of the embedded LMS on MariaDB, with the platform's locks and costs: it stands for
a real LMS where there is none. One by one through the platform's public API, it is measured in
turn."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.lms_load import ACCOUNTS, ENROLLMENTS, PREFIX, Load, accounts, enrollments
from benchmarks.mariadb import MariaDb, mariadb
from usher.embedded.home import folder as folders
from usher.embedded.home.process import free_port, running_lms

TOKEN = "token-of-the-benchmark-" + "1" * 30
RUNS = ["course-v1:edX+DemoX+Demo_Course", "course-v1:edX+E2E-101+course"]
_HERE = "http://127.0.0.1:9"  # nobody is told of anything
DESCRIPTION = {
    "service_worker": {"username": "worker", "email": "worker@example.org", "token": TOKEN},
    "applications": [
        {
            "name": "benchmark",
            "backend": "mitxpro-oauth2",
            "provider_name": "Benchmark",
            "client_id": "lms",
            "client_secret": "secret-of-the-lms",
            "authorization_url": f"{_HERE}/oauth2/authorize/",
            "access_token_url": f"{_HERE}/oauth2/token/",
            "api_root": _HERE,
            "logout_url": f"{_HERE}/logout/",
            "oauth_name": "benchmark",
            "oauth_client_id": "benchmark-at-the-lms",
            "oauth_client_secret": "secret-at-the-lms",
            "oauth_redirect_uris": [f"{_HERE}/complete"],
        }
    ],
}


def lms_on_mariadb(rounds: int, items: int) -> dict[str, Any]:
    """Medians of accounts with tokens and enrollments a second, two requests at once; how many
    times that is over one enrollment after the other; and deadlocks that InnoDB counted."""
    with mariadb("lms") as server, _served(server) as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120, trust_env=False) as client:
            load = Load(client, batch=25, at_once=2, page="/login")
            found = [_round(load, number, items) for number in range(rounds)]
        middle = sorted(found, key=lambda each: each["enrollments_a_second"])[len(found) // 2]
        return {**middle, "deadlocks": server.deadlocks(), "refused": len(load.refused)}


def _round(load: Load, number: int, items: int) -> dict[str, Any]:
    learners = accounts(items, f"{PREFIX}{number}-")
    wanted = enrollments(items, learners, RUNS[:1], "audit")
    single = enrollments(2 * items, learners, RUNS, "audit")[items : items + max(items // 20, 10)]
    by_batch = load.measured(ACCOUNTS, learners)
    enrolled = load.measured(ENROLLMENTS, wanted)
    one_by_one = _one_by_one(load.client, single)
    return {
        "accounts_a_second": by_batch["a_second"],
        "enrollments_a_second": enrolled["a_second"],
        "over_one_by_one": round(enrolled["a_second"] / one_by_one, 1),
        "page_p95": enrolled.get("page_p95"),
    }


def _one_by_one(client: httpx.Client, items: list[dict[str, Any]]) -> float:
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
def _served(server: MariaDb) -> Iterator[str]:
    port = free_port()
    plan = folders.Plan(
        root_url=f"http://127.0.0.1:{port}",
        settings={
            "USHER_BACKENDS": {"mitxpro-oauth2": "mitxpro-oauth2"},
            "DATABASE_URL": server.url("lms"),
            "PLATFORM_COSTS": True,
            "ATOMIC_REQUESTS": True,
            "API_THROTTLE_RATES": {"enrollment": {"user": None, "staff": None}},
        },
        cheap_passwords=True,
    )
    with tempfile.TemporaryDirectory(prefix="usher-bench-") as base:
        folder = Path(base) / "lms"
        folders.write(folder, plan)
        for command in (folders.PREPARE, ("seed_courses",)):
            _manage(folder, *command)
        _manage(folder, "usher_provision", "--file", "-", text=json.dumps(DESCRIPTION))
        with running_lms(folder, port) as url:
            yield url


def _manage(folder: Path, *arguments: str, text: str = "") -> None:
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command, cwd=folder, input=text, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr[-2000:]}")
