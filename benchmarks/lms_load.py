"""Measures the batch API of a real LMS, and the time of a learner's page meanwhile.

    python -m benchmarks.lms_load --lms URL --token-file F --accounts 2000 --enrollments 5000 \\
        [--run COURSE_KEY] [--mode MODE] [--force] [--concurrency N] [--batch N] [--page /heartbeat]

Items in a request and concurrent requests are adapted to the LMS as the application does
(``usher.client.pacing``), unless ``--batch`` or ``--concurrency`` gives a number.
The file F holds a service worker's token. Accounts are created with tokens, then enrolled in the
runs given by ``--run`` (may be repeated), or in as many of the LMS's own runs as needed.
Afterwards, and after Ctrl-C or an error, these enrollments are ended and the accounts deactivated.
Accounts can be deleted only on the LMS's machine; the command prints how.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from usher.client.pacing import FIRST_SIZE, MAX_CONCURRENT, Pacing
from usher.contract.limits import BATCH_ITEMS_A_REQUEST

_API = "/usher/api/v1/"
ACCOUNTS = f"{_API}accounts/"
ENROLLMENTS = f"{_API}enrollments/"
RUNS = f"{_API}course-runs/"
_SECONDS_BETWEEN_PAGES = 0.1
#: Not the sign-in page, because the platform limits requests for it by address.
DEFAULT_PAGE = "/heartbeat"
#: Seconds.
_PAGE_TIMEOUT = 60
#: The most attempts to send one request.
_MAX_ATTEMPTS = 10
#: How the usernames of the created accounts begin.
PREFIX = "usher-load-"


@dataclass
class Load:
    """The load on one LMS. page: path of the page that is requested meanwhile. batch: items in a
    request; concurrency: concurrent requests. If one is 0, it is adapted to the LMS, as the
    application does. pace: adapts them."""

    client: httpx.Client
    page: str
    batch: int = 0
    concurrency: int = 0
    pace: Pacing = field(default_factory=lambda: Pacing(BATCH_ITEMS_A_REQUEST))
    refused: list[Any] = field(default_factory=list)
    #: Requests that the LMS answered with an error, such as 500 after a deadlock, or did not
    #: answer.
    failed: int = 0
    #: Failed requests for the page. If there are any, the percentiles of the page are meaningless.
    page_failed: int = 0
    #: Path → id → item, for items that the LMS accepted; ``clean_up`` ends them.
    accepted: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def send(self, path: str, items: list[dict[str, Any]]) -> None:
        """Sends one request, and repeats it if the LMS fails, as the application does. Adds the
        items to ``accepted``, and the results of refused items to ``refused``. Raises
        httpx.HTTPError for a status of 4xx, or after ten attempts."""
        body = {"items": items, "request_id": secrets.token_hex(16)}
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                answer = self.client.post(path, json=body)
                answer.raise_for_status()
            except httpx.HTTPStatusError as error:
                if error.response.is_client_error or attempt == _MAX_ATTEMPTS:
                    raise
                self.failed += 1
            except httpx.HTTPError:
                if attempt == _MAX_ATTEMPTS:
                    raise
                self.failed += 1
            else:
                self._record_results(path, items, answer.json()["results"])
                return

    def _record_results(
        self, path: str, items: list[dict[str, Any]], results: list[dict[str, Any]]
    ) -> None:
        """Adds the results of refused items to ``refused``, and the other items to ``accepted``."""
        refused = [result for result in results if result["status"] == "refused"]
        self.refused += refused
        refused_ids = {result["id"] for result in refused}
        accepted = self.accepted.setdefault(path, {})
        for item in items:
            if item["id"] not in refused_ids:
                accepted[item["id"]] = item

    def send_and_measure(self, path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
        """Sends the items. Returns the numbers of items and requests, items a second, items of the
        largest request, concurrent requests at the end, and percentiles of the page's seconds
        meanwhile."""
        queue = ItemQueue(items)
        concurrency = self.concurrency or MAX_CONCURRENT
        with self._requesting_the_page() as page_seconds, ThreadPoolExecutor(concurrency) as pool:
            started = time.monotonic()
            futures = [pool.submit(self._send_queue, path, queue) for _ in range(concurrency)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                # Requests in progress finish, also after Ctrl-C. No new ones start.
                queue.clear()
                raise
            seconds_taken = time.monotonic() - started
        return {
            "items": len(items),
            "a_second": round(len(items) / seconds_taken, 1),
            "requests": len(queue.sizes),
            "largest_request": max(queue.sizes),
            "concurrency": self.concurrency or self.pace.concurrency,
            **percentiles(page_seconds),
        }

    def _send_queue(self, path: str, queue: ItemQueue) -> None:
        """Sends items of the queue until it is empty. Several threads do this at the same time."""
        while True:
            # A fixed concurrency needs no wait: the pool has as many threads.
            with self.pace.turn(path, urgent=bool(self.concurrency)) as size:
                batch = queue.take(self.batch or size)
                if not batch:
                    return
                sent_at = time.monotonic()
                self.send(path, batch)
                self.pace.record_time(path, len(batch), time.monotonic() - sent_at)
            if not self.concurrency and self.pace.claim_probe():
                self.pace.probe(lambda: self.client.get(_API).raise_for_status())

    @contextmanager
    def _requesting_the_page(self) -> Iterator[list[float]]:
        """Requests the page repeatedly during the block, and counts failures in ``page_failed``.
        Yields a list to which it adds the seconds of each request."""
        seconds: list[float] = []
        stop = threading.Event()

        def request_page() -> None:
            while not stop.wait(_SECONDS_BETWEEN_PAGES):
                started = time.monotonic()
                try:
                    is_error = self.client.get(self.page, timeout=_PAGE_TIMEOUT).is_error
                except httpx.HTTPError:
                    is_error = True
                self.page_failed += is_error
                seconds.append(time.monotonic() - started)

        thread = threading.Thread(target=request_page)
        thread.start()
        try:
            yield seconds
        finally:
            stop.set()
            thread.join()


class ItemQueue:
    """Items that several threads take and send. sizes: the number of items in each batch taken."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self.sizes: list[int] = []
        self._remaining = list(items)
        self._lock = threading.Lock()

    def take(self, size: int) -> list[dict[str, Any]]:
        """Takes at most ``size`` items; none if the queue is empty."""
        with self._lock:
            batch = self._remaining[:size]
            del self._remaining[:size]
            if batch:
                self.sizes.append(len(batch))
            return batch

    def clear(self) -> None:
        with self._lock:
            self._remaining.clear()


def percentiles(seconds: list[float]) -> dict[str, float]:
    """The median and the 95th percentile; empty for less than two values."""
    if len(seconds) < 2:
        return {}
    # The element with the index 0 is the first percentile.
    percentile_1_to_99 = statistics.quantiles(seconds, n=100)
    p50 = percentile_1_to_99[50 - 1]
    p95 = percentile_1_to_99[95 - 1]
    return {"page_p50": round(p50, 3), "page_p95": round(p95, 3)}


def accounts(number: int, prefix: str) -> list[dict[str, Any]]:
    """Items of the batch API that create ``number`` accounts with tokens. prefix: the text
    with which the usernames begin."""
    items = []
    for index in range(number):
        username = f"{prefix}{index}"
        items.append(
            {
                "id": username,
                "username": username,
                "email": f"{username}@example.org",
                "name": "Load Test",
                "tokens": True,
            }
        )
    return items


def enrollments(
    number: int, learners: list[dict[str, Any]], runs: list[str], mode: str, *, force: bool = False
) -> list[dict[str, Any]]:
    """The first ``number`` items: all learners in the first run, then all in the second, and so
    on. mode: '' for the run's default."""
    items: list[dict[str, Any]] = []
    for run in runs:
        for learner in learners:
            if len(items) == number:
                return items
            username = learner["username"]
            item = {
                "id": f"{run} {username}",
                "username": username,
                "course_id": run,
                "force": force,
            }
            if mode:
                item["mode"] = mode
            items.append(item)
    return items


def runs_of(client: httpx.Client, number: int) -> list[str]:
    """The first ``number`` course runs of the LMS, as its batch API lists them."""
    answer = client.get(RUNS, params={"limit": number})
    answer.raise_for_status()
    return [run["course_id"] for run in answer.json()["results"]]


def count_deadlocks(command: str) -> int | None:
    """Runs ``command`` and returns the number at the end of the output, such as the status variable
    Innodb_deadlocks. None without a command."""
    import shlex
    import subprocess

    if not command:
        return None
    result = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=60)
    words = result.stdout.split()
    try:
        return int(words[-1])
    except (IndexError, ValueError):
        output = result.stderr or result.stdout
        raise SystemExit(f"--deadlocks: the command printed no number: {output}") from None


def main() -> None:
    arguments = _parse_arguments()
    try:
        token = arguments.token_file.read_text().strip()
    except OSError as error:
        sys.exit(f"The token can't be read: {error}")
    headers = {"Authorization": f"Bearer {token}"}
    if arguments.host:
        headers["Host"] = arguments.host
    try:
        client = httpx.Client(base_url=arguments.lms, headers=headers, timeout=300, trust_env=False)
        with client:
            exit_unless_batch_api_works(client)
            load = Load(
                client,
                arguments.page,
                batch=arguments.batch,
                concurrency=arguments.concurrency,
            )
            print(json.dumps(measure(load, arguments)))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        sys.exit(f"{arguments.lms} did not process a request: {error or type(error).__name__}.")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)  # as a shell reports it


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.lms_load", description=__doc__)
    parser.add_argument("--lms", required=True, help="the LMS's address")
    parser.add_argument("--host", default="", help="the Host header, if it differs from --lms")
    parser.add_argument(
        "--token-file", required=True, type=Path, help="file with the service worker's token"
    )
    parser.add_argument("--run", action="append", help="a course key (default: the LMS's runs)")
    parser.add_argument("--mode", default="", help="mode (default: each run's default)")
    parser.add_argument("--force", action="store_true", help="enroll in closed runs, too")
    parser.add_argument("--accounts", type=int, default=2000, help="number of accounts to create")
    parser.add_argument(
        "--enrollments", type=int, default=5000, help="number of enrollments to create"
    )
    adapted = "(default: adapted to the LMS, as the application does)"
    parser.add_argument("--batch", type=int, default=0, help=f"items a request {adapted}")
    parser.add_argument("--concurrency", type=int, default=0, help=f"concurrent requests {adapted}")
    parser.add_argument("--page", default=DEFAULT_PAGE, help="page to request meanwhile")
    parser.add_argument(
        "--deadlocks", default="", help="command that prints InnoDB's count of deadlocks"
    )
    return parser.parse_args()


def exit_unless_batch_api_works(client: httpx.Client) -> None:
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
            "a service worker's token with the scopes read and write."
        )
    if answer.status_code == 404:
        sys.exit(
            f"{client.base_url} has no batch API ({_API} is not found). Install the LMS plugin "
            "there and name a backend in USHER_BACKENDS. If the LMS has another host name than "
            "this address, give that name with --host."
        )
    if not answer.is_success:
        sys.exit(
            f"{client.base_url} answers {_API} with {answer.status_code}. See the LMS's log for "
            "the reason."
        )


def measure(load: Load, arguments: Any) -> dict[str, Any]:
    """Sends accounts and enrollments, each of them twice, and cleans up afterwards. Returns the
    results of ``send_and_measure`` and the numbers of failures."""
    # Prepare the items.
    prefix = PREFIX + secrets.token_hex(3) + "-"
    learners = accounts(arguments.accounts, prefix)
    enough_runs = math.ceil(arguments.enrollments / arguments.accounts)
    runs = arguments.run or runs_of(load.client, enough_runs)
    if not runs:
        sys.exit("The LMS has no course runs to enroll in. Name one with --run.")
    enrollment_items = enrollments(
        arguments.enrollments, learners, runs, arguments.mode, force=arguments.force
    )
    delete_with = (
        './manage.py lms shell -c "from django.contrib.auth import get_user_model as g; '
        f"g().objects.filter(username__startswith='{prefix}').delete()\""
    )
    _print_progress(
        f"The accounts are called {prefix}…. To delete them, run in the LMS:\n  {delete_with}"
    )

    # Send them.
    deadlocks_before = count_deadlocks(arguments.deadlocks)
    figures: dict[str, Any] = {"load_average": _load_average()}
    try:
        figures["accounts"] = load.send_and_measure(ACCOUNTS, learners)
        figures["accounts_again"] = load.send_and_measure(ACCOUNTS, learners)
        figures["enrollments"] = load.send_and_measure(ENROLLMENTS, enrollment_items)
        figures["enrollments_again"] = load.send_and_measure(ENROLLMENTS, enrollment_items)
    finally:
        _print_progress("Ending the enrollments and deactivating the accounts.")
        clean_up(load)

    # Add the failures.
    figures["failed_requests"] = load.failed
    figures["refused"] = len(load.refused)
    figures["page_failed"] = load.page_failed
    figures["why"] = sorted({str(refusal["error"]) for refusal in load.refused})[:5]
    if deadlocks_before is not None:
        figures["deadlocks"] = (count_deadlocks(arguments.deadlocks) or 0) - deadlocks_before
    figures["delete_with"] = delete_with
    return figures


def _load_average() -> float | None:
    """This machine's load average of the last minute, since other work slows down the measurement;
    None on a system without such a number."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def _print_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def clean_up(load: Load) -> None:
    """Ends the accepted enrollments and deactivates the accepted accounts. No other account is
    sent, because a request to deactivate a missing account would create it."""
    unenrollments = []
    for item in load.accepted.get(ENROLLMENTS, {}).values():
        unenrollment = {**item, "is_active": False}
        # Ending an enrollment needs no mode, and would be refused if the mode differed.
        unenrollment.pop("mode", None)
        unenrollments.append(unenrollment)
    deactivations = [
        {**item, "tokens": False, "is_active": False}
        for item in load.accepted.get(ACCOUNTS, {}).values()
    ]
    refused_before = list(load.refused)
    size = load.batch or FIRST_SIZE
    for path, items in ((ENROLLMENTS, unenrollments), (ACCOUNTS, deactivations)):
        for start in range(0, len(items), size):
            load.send(path, items[start : start + size])
    load.refused = refused_before  # refusals of the clean-up do not count


if __name__ == "__main__":
    main()
