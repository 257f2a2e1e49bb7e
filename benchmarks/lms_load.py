"""Measures the batch API of a real LMS, and what a learner's page takes beside it.

    python -m benchmarks.lms_load --lms URL --token-file F --accounts 2000 --enrollments 5000 \\
        [--run COURSE_KEY] [--mode MODE] [--at-once 1] [--batch 25] [--page /heartbeat]

The token is that of a service worker (`usher_provision` writes it down). Accounts are made with
tokens, then enrolled in the runs given by ``--run`` (once for each, several are filled in turn),
or in as many of the LMS's own runs as it takes. Afterwards the enrollments are ended and the
accounts set inactive; an LMS deletes accounts only on its own machine, so the command that does is
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_API = "/usher/api/v1/"
ACCOUNTS, ENROLLMENTS, RUNS = f"{_API}accounts/", f"{_API}enrollments/", f"{_API}course-runs/"
#: Seconds between two looks at the page.
_PAGE_EVERY = 0.1
#: The platform limits how often an address may open its sign-in page, so that isn't the page.
PAGE = "/heartbeat"
_PAGE_TIMEOUT = 60
_ATTEMPTS = 10
PREFIX = "usher-load-"


@dataclass
class Load:
    """One LMS under load: how many items a request, and how many requests at once."""

    client: httpx.Client
    batch: int
    at_once: int
    page: str
    refused: list[Any] = field(default_factory=list)
    #: Requests that the LMS answered with an error, such as 500 after a deadlock, or not at all.
    failed: int = 0
    #: How often the page was refused or failed; its percentiles say nothing then.
    page_failed: int = 0

    def send(self, path: str, items: list[dict[str, Any]]) -> None:
        """One request, repeated when the LMS fails at it, as the application does."""
        body = {"items": items, "request_id": secrets.token_hex(16)}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self.client.post(path, json=body)
                answer.raise_for_status()
            except httpx.HTTPError as error:
                is_refused = isinstance(error, httpx.HTTPStatusError) and answer.is_client_error
                if is_refused or attempt == _ATTEMPTS:
                    raise
                self.failed += 1
            else:
                results = answer.json()["results"]
                self.refused += [each for each in results if each["status"] == "refused"]
                return

    def measured(self, path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Items a second, and seconds of the page beside them."""
        batches = [items[i : i + self.batch] for i in range(0, len(items), self.batch)]
        with self._looking_at_the_page() as seconds, ThreadPoolExecutor(self.at_once) as pool:
            started = time.monotonic()
            for _ in pool.map(lambda some: self.send(path, some), batches):
                pass
            took = time.monotonic() - started
        return {
            "items": len(items),
            "a_second": round(len(items) / took, 1),
            **percentiles(seconds),
        }

    @contextmanager
    def _looking_at_the_page(self) -> Iterator[list[float]]:
        seconds: list[float] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.wait(_PAGE_EVERY):
                started = time.monotonic()
                try:
                    is_error = self.client.get(self.page, timeout=_PAGE_TIMEOUT).is_error
                except httpx.HTTPError:
                    is_error = True
                self.page_failed += is_error
                seconds.append(time.monotonic() - started)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield seconds
        finally:
            stop.set()
            thread.join()


def percentiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"page_p50": round(cuts[49], 3), "page_p95": round(cuts[94], 3)}


def accounts(number: int, prefix: str) -> list[dict[str, Any]]:
    names = (f"{prefix}{index}" for index in range(number))
    return [
        {
            "id": name,
            "username": name,
            "email": f"{name}@example.org",
            "name": "Load Test",
            "tokens": True,
        }
        for name in names
    ]


def enrollments(
    number: int, learners: list[dict[str, Any]], runs: list[str], mode: str
) -> list[dict[str, Any]]:
    """Run by run, each learner once. mode: '' for the run's default."""
    pairs = ((run, learner["username"]) for run in runs for learner in learners)
    return [
        {
            "id": f"{run} {username}",
            "username": username,
            "course_id": run,
            **({"mode": mode} if mode else {}),
            "force": True,
        }
        for run, username in pairs
    ][:number]


def runs_of(client: httpx.Client, number: int) -> list[str]:
    """The first ``number`` course runs of the LMS, as its batch API lists them."""
    answer = client.get(RUNS, params={"limit": number})
    answer.raise_for_status()
    return [run["course_id"] for run in answer.json()["results"]]


def deadlocks(ask: Callable[[], int] | None) -> int | None:
    """InnoDB's own count; None where there is no way to ask."""
    return ask() if ask is not None else None


def counting_deadlocks(command: str) -> Callable[[], int] | None:
    """``command`` prints a number, such as that of the status variable Innodb_deadlocks."""
    if not command:
        return None

    def ask() -> int:
        import shlex
        import subprocess

        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, check=True, timeout=60
        )
        return int(done.stdout.split()[-1])

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.lms_load", description=__doc__)
    parser.add_argument("--lms", required=True, help="the LMS's address")
    parser.add_argument("--host", default="", help="the Host header, where it differs")
    parser.add_argument("--token-file", required=True, type=Path)
    parser.add_argument("--run", action="append", help="a course key (default: the LMS's runs)")
    parser.add_argument("--mode", default="", help="default: each run's default mode")
    parser.add_argument("--accounts", type=int, default=2000)
    parser.add_argument("--enrollments", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=25, help="items a request")
    parser.add_argument("--at-once", type=int, default=1, help="requests at once")
    parser.add_argument("--page", default=PAGE, help="what a learner opens meanwhile")
    parser.add_argument("--deadlocks", default="", help="command that prints InnoDB's count")
    asked = parser.parse_args()
    headers = {"Authorization": f"Bearer {asked.token_file.read_text().strip()}"}
    if asked.host:
        headers["Host"] = asked.host
    with httpx.Client(base_url=asked.lms, headers=headers, timeout=300, trust_env=False) as client:
        print(json.dumps(measure(Load(client, asked.batch, asked.at_once, asked.page), asked)))


def measure(load: Load, asked: Any) -> dict[str, Any]:
    prefix = PREFIX + secrets.token_hex(3) + "-"
    learners = accounts(asked.accounts, prefix)
    runs = asked.run or runs_of(load.client, -(-asked.enrollments // asked.accounts))
    wanted = enrollments(asked.enrollments, learners, runs, asked.mode)
    ask = counting_deadlocks(asked.deadlocks)
    before = deadlocks(ask)
    found: dict[str, Any] = {"load_average": _load_average()}
    try:
        found["accounts"] = load.measured(ACCOUNTS, learners)
        found["accounts_again"] = load.measured(ACCOUNTS, learners)
        found["enrollments"] = load.measured(ENROLLMENTS, wanted)
        found["enrollments_again"] = load.measured(ENROLLMENTS, wanted)
    finally:
        clean_up(load, learners, wanted)
    found["failed_requests"], found["refused"] = load.failed, len(load.refused)
    found["page_failed"] = load.page_failed
    found["why"] = sorted({str(each["error"]) for each in load.refused})[:5]
    if before is not None:
        found["deadlocks"] = (deadlocks(ask) or 0) - before
    found["delete_with"] = (
        './manage.py lms shell -c "from django.contrib.auth import get_user_model as g; '
        f"g().objects.filter(username__startswith='{prefix}').delete()\""
    )
    return found


def _load_average() -> float | None:
    """Of this machine, in the last minute: what else it does slows everything here."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def clean_up(load: Load, learners: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """As far as an API can: nobody is enrolled any more, and nobody can sign in."""
    left = [{k: v for k, v in item.items() if k != "mode"} for item in wanted]
    gone = [{**item, "tokens": False, "is_active": False} for item in learners]
    refused, load.refused = load.refused, []
    for path, items in ((ENROLLMENTS, [{**i, "is_active": False} for i in left]), (ACCOUNTS, gone)):
        for start in range(0, len(items), load.batch):
            load.send(path, items[start : start + load.batch])
    load.refused = refused


if __name__ == "__main__":
    main()
