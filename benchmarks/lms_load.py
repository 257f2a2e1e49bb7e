"""Measures the batch API of a real LMS, and the time of a learner's page meanwhile.

    python -m benchmarks.lms_load --lms URL --token-file F --accounts 2000 --enrollments 5000 \\
        [--run COURSE_KEY] [--mode MODE] [--force] [--at-once 1] [--batch 25] [--page /heartbeat]

The token is a service worker's. Accounts are created with tokens, then enrolled in the runs given
by ``--run`` (may be repeated), or in as many of the LMS's own runs as needed. Afterwards, and after
Ctrl-C or an error, these enrollments are ended and the accounts deactivated. Accounts can be
deleted only on the LMS's machine, so the command for that is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import sys
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
#: Seconds between two requests for the page.
_PAGE_EVERY = 0.1
#: Not the sign-in page, because the platform limits requests for it by address.
PAGE = "/heartbeat"
_PAGE_TIMEOUT = 60
_ATTEMPTS = 10
PREFIX = "usher-load-"


@dataclass
class Load:
    """The load on one LMS: items in a request, and concurrent requests."""

    client: httpx.Client
    batch: int
    at_once: int
    page: str
    refused: list[Any] = field(default_factory=list)
    #: Requests that the LMS answered with an error, such as 500 after a deadlock, or did not
    #: answer.
    failed: int = 0
    #: Failed requests for the page; with these its percentiles are meaningless.
    page_failed: int = 0
    #: Successful items by path and id, which are ended afterwards.
    made: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def send(self, path: str, items: list[dict[str, Any]]) -> None:
        """Sends one request, and repeats it if the LMS fails, as the application does."""
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
                refused = [each for each in answer.json()["results"] if each["status"] == "refused"]
                self.refused += refused
                not_made = {each["id"] for each in refused}
                made = self.made.setdefault(path, {})
                made.update({item["id"]: item for item in items if item["id"] not in not_made})
                return

    def measured(self, path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns items in a second, and seconds of the page meanwhile."""
        batches = [items[i : i + self.batch] for i in range(0, len(items), self.batch)]
        with self._looking_at_the_page() as seconds, ThreadPoolExecutor(self.at_once) as pool:
            started = time.monotonic()
            sending = [pool.submit(self.send, path, some) for some in batches]
            try:
                for each in sending:
                    each.result()
            except BaseException:
                # Also after Ctrl-C: requests in progress are finished, and no others begun.
                pool.shutdown(cancel_futures=True)
                raise
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
    number: int, learners: list[dict[str, Any]], runs: list[str], mode: str, *, force: bool = False
) -> list[dict[str, Any]]:
    """The items, run by run, each learner once. mode: '' for the run's default."""
    pairs = ((run, learner["username"]) for run in runs for learner in learners)
    return [
        {
            "id": f"{run} {username}",
            "username": username,
            "course_id": run,
            **({"mode": mode} if mode else {}),
            "force": force,
        }
        for run, username in pairs
    ][:number]


def runs_of(client: httpx.Client, number: int) -> list[str]:
    """The first ``number`` course runs of the LMS, as its batch API lists them."""
    answer = client.get(RUNS, params={"limit": number})
    answer.raise_for_status()
    return [run["course_id"] for run in answer.json()["results"]]


def deadlocks(ask: Callable[[], int] | None) -> int | None:
    """InnoDB's count of deadlocks; None if it can't be read."""
    return ask() if ask is not None else None


def counting_deadlocks(command: str) -> Callable[[], int] | None:
    """A function that runs ``command``, which prints a number such as the status variable
    Innodb_deadlocks."""
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
    parser.add_argument("--force", action="store_true", help="enroll in closed runs, too")
    parser.add_argument("--accounts", type=int, default=2000)
    parser.add_argument("--enrollments", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=25, help="items a request")
    parser.add_argument("--at-once", type=int, default=1, help="requests at once")
    parser.add_argument("--page", default=PAGE, help="what a learner opens meanwhile")
    parser.add_argument("--deadlocks", default="", help="command that prints InnoDB's count")
    asked = parser.parse_args()
    try:
        token = asked.token_file.read_text().strip()
    except OSError as error:
        sys.exit(f"The token can't be read: {error}")
    headers = {"Authorization": f"Bearer {token}"}
    if asked.host:
        headers["Host"] = asked.host
    try:
        with httpx.Client(
            base_url=asked.lms, headers=headers, timeout=300, trust_env=False
        ) as client:
            refuse_unusable(client)
            print(json.dumps(measure(Load(client, asked.batch, asked.at_once, asked.page), asked)))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        sys.exit(f"{asked.lms} did not do what was asked: {error or type(error).__name__}.")
    except KeyboardInterrupt:
        sys.exit(130)


def refuse_unusable(client: httpx.Client) -> None:
    """Exits with a message if the batch API can't be used, before anything is created."""
    try:
        answer = client.get(_API, timeout=30)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        sys.exit(
            f"{client.base_url} can't be reached: {error or type(error).__name__}. "
            "Is --lms the LMS's address, with http:// or https://?"
        )
    if answer.status_code in (401, 403):
        sys.exit(
            f"{client.base_url} refuses the token ({answer.status_code}). The token file must hold "
            "that of a service worker with the scopes read and write."
        )
    if answer.status_code == 404:
        sys.exit(
            f"{client.base_url} has no batch API ({_API} is not found). The LMS plugin must be "
            "installed and a backend named in USHER_BACKENDS; where the LMS goes by another "
            "name than this address, name it with --host."
        )
    if not answer.is_success:
        sys.exit(f"{client.base_url} answers {_API} with {answer.status_code}; its log says why.")


def measure(load: Load, asked: Any) -> dict[str, Any]:
    prefix = PREFIX + secrets.token_hex(3) + "-"
    learners = accounts(asked.accounts, prefix)
    runs = asked.run or runs_of(load.client, -(-asked.enrollments // asked.accounts))
    if not runs:
        sys.exit("The LMS has no course runs to enroll in. Name one with --run.")
    wanted = enrollments(asked.enrollments, learners, runs, asked.mode, force=asked.force)
    ask = counting_deadlocks(asked.deadlocks)
    before = deadlocks(ask)
    found: dict[str, Any] = {"load_average": _load_average()}
    delete_with = (
        './manage.py lms shell -c "from django.contrib.auth import get_user_model as g; '
        f"g().objects.filter(username__startswith='{prefix}').delete()\""
    )
    _tell(f"The accounts are called {prefix}…; this deletes them in the LMS:\n  {delete_with}")
    try:
        found["accounts"] = load.measured(ACCOUNTS, learners)
        found["accounts_again"] = load.measured(ACCOUNTS, learners)
        found["enrollments"] = load.measured(ENROLLMENTS, wanted)
        found["enrollments_again"] = load.measured(ENROLLMENTS, wanted)
    finally:
        _tell("Ending the enrollments and deactivating the accounts.")
        clean_up(load)
    found["failed_requests"], found["refused"] = load.failed, len(load.refused)
    found["page_failed"] = load.page_failed
    found["why"] = sorted({str(each["error"]) for each in load.refused})[:5]
    if before is not None:
        found["deadlocks"] = (deadlocks(ask) or 0) - before
    found["delete_with"] = delete_with
    return found


def _load_average() -> float | None:
    """This machine's load average of the last minute, since other work slows down the
    measurement."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clean_up(load: Load) -> None:
    """Ends the created enrollments and deactivates the created accounts. Leaves out others, because
    deactivating an account that does not exist would create it."""
    enrolled, present = load.made.get(ENROLLMENTS, {}), load.made.get(ACCOUNTS, {})
    left = [
        {**{key: value for key, value in item.items() if key != "mode"}, "is_active": False}
        for item in enrolled.values()
    ]
    gone = [{**item, "tokens": False, "is_active": False} for item in present.values()]
    refused, load.refused = load.refused, []
    for path, items in ((ENROLLMENTS, left), (ACCOUNTS, gone)):
        for start in range(0, len(items), load.batch):
            load.send(path, items[start : start + load.batch])
    load.refused = refused


if __name__ == "__main__":
    main()
