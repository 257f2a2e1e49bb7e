"""Course runs follow the LMS: pages fetched concurrently, only what changed written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from usher.application.engine.summary import Failure, Summary
from usher.application.lms.client import LmsClient
from usher.application.lms.errors import LmsError, NotThere, Throttled
from usher.application.lms.payloads import RunPage, read_run
from usher.application.runs.models import CourseRun, RunModes

#: Fields of ``CourseRun`` that follow the LMS, and are written when it changed them.
FOLLOWED = (
    "title",
    "org",
    "number",
    "short_description",
    "image_url",
    "pacing",
    "start",
    "end",
    "enrollment_start",
    "enrollment_end",
    "invitation_only",
    "hidden",
)
_WRITTEN = (*FOLLOWED, "digest", "missing_since", "observed_at")
_PAGES_AT_A_TIME = 16
_ROWS = 500
#: Failures of a page before it is given up.
_TRIES = 5

#: Told how long the LMS lets us wait, in seconds.
Waiting = Callable[[float], None]


def digest(raw: dict[str, Any]) -> str:
    """Stands for one run's answer: the same answer has the same digest."""
    text = json.dumps(raw, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def pages(lms: LmsClient, waiting: Waiting, patience: float) -> Iterator[RunPage]:
    """All pages of the course list, as they come; the order is the LMS's haste.

    A throttled page is asked for again when the LMS said so, within ``patience`` seconds in all.
    Raises LmsError when a page can't be had: half a list must not pass for a whole one.
    """
    getter = _Getter(lms, waiting, patience)
    first = getter.page(1)
    yield first
    if first.pages <= 1:
        return
    with ThreadPoolExecutor(min(_PAGES_AT_A_TIME, first.pages - 1)) as pool:
        todo: set[Future[RunPage]] = {
            pool.submit(getter.page, number) for number in range(2, first.pages + 1)
        }
        try:
            while todo:
                done, todo = wait(todo, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in todo:
                future.cancel()


class _Getter:
    def __init__(self, lms: LmsClient, waiting: Waiting, patience: float) -> None:
        self._lms = lms
        self._waiting = waiting
        self._deadline = time.monotonic() + patience

    def page(self, number: int) -> RunPage:
        failures = 0
        while True:
            try:
                return self._lms.runs_page(number)
            except NotThere:
                return RunPage([], number, 0)  # the list grew shorter meanwhile
            except LmsError as error:
                throttled = isinstance(error, Throttled)
                failures += not throttled
                delay = error.retry_after or 0.2 * 2**failures
                late = time.monotonic() + delay > self._deadline
                is_final = error.failure_class in ("rejected", "systemic")
                if late or is_final or failures >= _TRIES:
                    raise
                if throttled:
                    self._waiting(delay)
                time.sleep(delay)


def write(found: Sequence[dict[str, Any]], known: dict[str, tuple[int, str]]) -> Summary:
    """Writes the runs of one or more pages. ``known``: course key → id and digest, kept true."""
    summary, now = Summary(), timezone.now()
    fresh, changed, seen_again = [], [], []
    for raw in found:
        key = str(raw.get("course_id", ""))
        mark = digest(raw)
        pk, before = known.get(key, (0, ""))
        if pk and before == mark:
            summary.unchanged += 1
            continue
        try:
            seen = read_run(raw)
        except LmsError as error:
            summary.fail(Failure("run", key, error.failure_class, error.code, error.message))
            continue
        (changed if pk else fresh).append(_row(asdict(seen), pk, mark, now))
        seen_again.append(key)
    summary.changed += len(fresh) + len(changed)
    with transaction.atomic():
        if changed:
            CourseRun.objects.bulk_update(changed, _WRITTEN, batch_size=_ROWS)
            CourseRun.objects.filter(pk__in=[run.pk for run in changed]).update(**_settled())
        _create(fresh)
    known.update({run.course_key: (run.pk, run.digest) for run in (*fresh, *changed)})
    return summary


def _settled() -> dict[str, Any]:
    return {
        "observed_generation": F("generation"),
        "attempts": 0,
        "error_class": "",
        "error_code": "",
        "error_message": "",
        "parked_at": None,
        "next_attempt_at": None,
    }


def _row(values: dict[str, Any], pk: int, mark: str, now: datetime) -> CourseRun:
    run = CourseRun(**values, digest=mark, missing_since=None, observed_at=now)
    if pk:
        run.pk = pk
    else:
        run.observed_generation, run.next_attempt_at = run.generation, None
    return run


def _create(runs: list[CourseRun]) -> None:
    if runs:
        CourseRun.objects.bulk_create(runs, batch_size=_ROWS)
        RunModes.objects.bulk_create(
            [RunModes(run=run) for run in runs], batch_size=_ROWS, ignore_conflicts=True
        )


def known_runs() -> dict[str, tuple[int, str]]:
    """Course key → id and digest, of all runs here; a run that was missing counts as changed."""
    rows = CourseRun.objects.values_list("course_key", "pk", "digest", "missing_since")
    return {key: (pk, "" if missing else mark) for key, pk, mark, missing in rows.iterator()}
