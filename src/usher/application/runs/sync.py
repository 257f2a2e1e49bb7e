"""Copies all course runs from the LMS: fetches pages concurrently and writes only changes."""

from __future__ import annotations

import hashlib
import math
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import F
from django.utils import timezone

from usher.application.enrollments.models import Enrollment
from usher.application.lms.evidence import SAMPLE_SIZE, Evidence
from usher.application.runs.models import CourseRun, RunModes, problem_of_key, validate_course_key
from usher.client.client import LmsClient
from usher.client.errors import LmsError, NotTheLms, NotThere, Throttled
from usher.client.payloads import BadValue, ObservedRun, RunPage, read_run
from usher.engine.models import lock
from usher.engine.rows import update_rows
from usher.engine.summary import Failure, Summary
from usher.engine.transactions import retry_transaction

#: Fields of ``CourseRun`` that are copied from the LMS.
SYNCED_FIELDS = (
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
_WRITTEN_FIELDS = (*SYNCED_FIELDS, "digest", "missing_since", "observed_at")
#: Pages requested at the same time, at least and at most. See ``Pace``.
_MIN_CONCURRENT, MAX_CONCURRENT = 2, 40
#: Seconds for which the first pages together may keep one process of the LMS busy.
_FIRST_SECONDS = 2.0
#: A page is slow if it takes longer than the quickest one times the factor, plus the jitter.
_SLOW_FACTOR, _JITTER_SECONDS = 1.5, 0.05
#: As many keys as fit into a URL.
_KEYS_A_REQUEST = 50
_ROWS_A_WRITE = 500
#: The sync fails if one page fails this many times, or if its failed requests took this many
#: seconds in all: each request to an LMS that hangs takes a minute.
_MAX_TRIES = 5
_FAILING_SECONDS = 90.0
#: Seconds before the second attempt for a page, if the LMS names no time. The delay doubles with
#: each failure.
_FIRST_DELAY_SECONDS = 0.2
#: Seconds between two calls of ``meanwhile``.
_MEANWHILE_SECONDS = 1.0

#: Called when the LMS throttles, with the seconds until the next attempt.
Waiting = Callable[[float], None]


class KnownRun(NamedTuple):
    """A run's row here. digest: of the LMS's last answer; '' for a run that is marked as missing,
    so that it counts as changed when the LMS shows it again."""

    pk: int
    digest: str


#: The fields of the LMS's answer that ``read_run`` reads.
_READ_FIELDS = (
    "name",
    "org",
    "number",
    "short_description",
    "pacing",
    "start",
    "end",
    "enrollment_start",
    "enrollment_end",
    "invitation_only",
    "hidden",
)
_read_fields = itemgetter(*_READ_FIELDS)
#: The digest of values that are nested too deeply; ``read_run`` rejects them.
_UNREADABLE = "unreadable"


def digest(raw: dict[str, Any]) -> str:
    """A digest of the fields of a run that are synced, or ``_UNREADABLE``."""
    try:
        values: Any = (_read_fields(raw), raw["media"]["image"]["large"])
    except (KeyError, TypeError):
        values = (*(raw.get(name) for name in _READ_FIELDS), raw.get("media"))
    try:
        return hashlib.blake2b(repr(values).encode(), digest_size=16).hexdigest()
    except RecursionError:
        return _UNREADABLE


def read_pages(
    lms: LmsClient,
    *,
    waiting: Waiting,
    patience: float,
    meanwhile: Callable[[], None] | None = None,
) -> Iterator[RunPage]:
    """Yields all pages of the course list in the order in which they arrive. The call itself
    already requests the first page.

    A throttled page is requested again after the time that the LMS named, within ``patience``
    seconds in all. waiting: see ``Waiting``. meanwhile: called about once a second by the iterating
    thread. Iterating raises LmsError when a page cannot be fetched, since an incomplete list must
    not count as complete.
    """
    reader = _PageReader(lms, waiting, patience)
    pool = ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="usher-pages")
    return _read_pages(pool, reader, first_request=pool.submit(reader.page, 1), meanwhile=meanwhile)


class _TimedPage(NamedTuple):
    """A page, and the seconds that it took with all attempts."""

    page: RunPage
    seconds: float


def _read_pages(
    pool: ThreadPoolExecutor,
    reader: _PageReader,
    *,
    first_request: Future[_TimedPage],
    meanwhile: Callable[[], None] | None,
) -> Iterator[RunPage]:
    """As ``read_pages``. first_request: of page 1, which says how many pages there are."""
    arrived: queue.SimpleQueue[Future[_TimedPage]] = queue.SimpleQueue()
    first_request.add_done_callback(arrived.put)
    outstanding = 1
    remaining_pages: Iterator[int] | None = None
    pace = Pace()
    called_at = time.monotonic()
    timeout = _MEANWHILE_SECONDS if meanwhile else None
    try:
        while outstanding:
            try:
                page, seconds = arrived.get(timeout=timeout).result()
            except queue.Empty:
                pass  # no page has arrived since, but ``meanwhile`` is due
            else:
                outstanding -= 1
                pace.record_time(seconds)
                if remaining_pages is None:  # this is the first page
                    remaining_pages = iter(range(2, page.pages + 1))
                more_requests = max(0, pace.concurrency - outstanding)
                for number in islice(remaining_pages, more_requests):
                    pool.submit(reader.page, number).add_done_callback(arrived.put)
                    outstanding += 1
                yield page
            if meanwhile and time.monotonic() - called_at >= _MEANWHILE_SECONDS:
                meanwhile()
                called_at = time.monotonic()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Pace:
    """How many pages to request at the same time. The time of the first page decides the number to
    begin with. Then each page that takes about as long as the quickest one adds one, and each page
    that takes much longer halves the number, since the LMS is busy."""

    def __init__(self) -> None:
        self.concurrency = 0  # until the first page has arrived
        self._quickest = math.inf

    def record_time(self, seconds: float) -> None:
        """Call it after each page; adapts ``concurrency``. seconds: from the request of the page to
        its answer, with all attempts."""
        self._quickest = min(self._quickest, seconds)
        if not self.concurrency:  # the first page
            number = int(_FIRST_SECONDS / max(seconds, 0.001))  # never a division by zero
        elif seconds > _SLOW_FACTOR * self._quickest + _JITTER_SECONDS:
            number = self.concurrency // 2
        else:
            number = self.concurrency + 1
        self.concurrency = max(_MIN_CONCURRENT, min(number, MAX_CONCURRENT))


def runs_by_key(lms: LmsClient, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Course key → the LMS's object, for the runs that the LMS shows. Malformed keys are left out,
    since the LMS refuses a request with one. Raises LmsError."""
    runs: dict[str, dict[str, Any]] = {}
    keys = [key for key in keys if not problem_of_key(key)]
    for start in range(0, len(keys), _KEYS_A_REQUEST):
        page_keys = keys[start : start + _KEYS_A_REQUEST]
        keys_of_request = set(page_keys)
        for raw in lms.runs_page(1, page_keys).results:
            if str(raw.get("course_id")) in keys_of_request:
                runs[str(raw["course_id"])] = raw
    return runs


def require_known_runs(lms: LmsClient, evidence: Evidence) -> None:
    """Call before a run counts as missing: the LMS must show runs that it is known to have. Raises
    LmsError when the LMS shows none of these runs, or too few."""
    keys = evidence.items("run")
    lms.confirm_lms()
    if len(keys) > 1 and not runs_by_key(lms, keys[:_KEYS_A_REQUEST]):
        raise NotTheLms(
            f"The LMS shows none of {len(keys)} course runs that it showed before, so no run "
            "counts as missing. Does another LMS answer, or may the service worker no longer see "
            "the runs?"
        )

    def count_missing(known_keys: Sequence[str]) -> int:
        return len(known_keys) - len(runs_by_key(lms, known_keys))

    evidence.require("run", count_missing)


class _PageReader:
    """Requests single pages of the course list; used by several threads."""

    def __init__(self, lms: LmsClient, waiting: Waiting, patience: float) -> None:
        self._lms = lms
        self._waiting = waiting
        self._deadline = time.monotonic() + patience

    def page(self, number: int) -> _TimedPage:
        """Requests the page, as ``_page``, and measures the time."""
        began_at = time.monotonic()
        page = self._page(number)
        return _TimedPage(page, seconds=time.monotonic() - began_at)

    def _page(self, number: int) -> RunPage:
        """Requests the page until the LMS returns it. Raises LmsError, at the latest after
        ``_MAX_TRIES`` failures."""
        failures, failing_seconds = 0, 0.0
        while True:
            began_at = time.monotonic()
            try:
                return self._lms.runs_page(number)
            except NotThere:
                if number == 1:
                    raise
                # Runs were deleted in the meantime, so the list has fewer pages.
                return RunPage(results=[], pages=number, count=0)
            except LmsError as error:
                is_throttled = isinstance(error, Throttled)
                if not is_throttled:
                    failures += 1
                    failing_seconds += time.monotonic() - began_at
                delay = error.retry_after or _FIRST_DELAY_SECONDS * 2**failures
                is_too_late = time.monotonic() + delay > self._deadline
                is_final = error.failure_class in ("rejected", "systemic")
                fails_too_long = failures >= _MAX_TRIES or failing_seconds > _FAILING_SECONDS
                if is_too_late or is_final or fails_too_long:
                    raise
                if is_throttled:
                    self._waiting(delay)
                time.sleep(delay)


class Writer:
    """Compares pages with the records and writes changes, some hundreds of runs at a time."""

    def __init__(self, known: dict[str, KnownRun]) -> None:
        """known: course key → run, of all runs here."""
        self.summary = Summary()
        #: Known runs that were on no page so far.
        self.keys_not_in_lms = set(known)
        #: Runs that the LMS has shown before, except those that are marked as missing.
        self.observed_keys = {key for key, run in known.items() if run.digest}
        #: Some of the known runs that the LMS showed.
        self.sample_keys: list[str] = []
        self._known = known
        #: Rows that ``flush`` will write.
        self._new: list[CourseRun] = []
        self._changed: list[CourseRun] = []

    def compare(self, raw_runs: Sequence[dict[str, Any]]) -> None:
        """Compares the LMS's objects of one page, and writes the changes once there are some
        hundreds of changed runs."""
        for raw in raw_runs:
            key = str(raw.get("course_id", ""))
            self.keys_not_in_lms.discard(key)
            known_run = self._known.get(key)
            if known_run is not None and len(self.sample_keys) < SAMPLE_SIZE:
                self.sample_keys.append(key)
            digest_of_run = digest(raw)
            if known_run is not None and known_run.digest == digest_of_run:
                self.summary.unchanged += 1
            else:
                pk = 0 if known_run is None else known_run.pk
                self._add_difference(raw, key, pk, digest_of_run)
        if len(self._new) + len(self._changed) >= _ROWS_A_WRITE:
            self.flush()

    def _add_difference(self, raw: dict[str, Any], key: str, pk: int, digest_of_run: str) -> None:
        """Prepares the row of a new or changed run for ``flush``. pk: 0 for a new run."""
        try:
            observed = read_run(raw)
            if not pk:
                _require_valid_key(observed.course_key)
            row = _row(observed, pk, digest_of_run, timezone.now())
        except LmsError as error:
            self.summary.fail(Failure.from_error("run", key, error))
            return
        if pk:
            self._changed.append(row)
        else:
            self._new.append(row)
        self.summary.changed += 1

    def flush(self) -> None:
        """Writes the new and changed runs that are not written yet."""
        new, changed = self._new, self._changed
        self._new, self._changed = [], []
        if not new and not changed:
            return
        retry_transaction(lambda: _write(new, changed))


def _require_valid_key(key: str) -> None:
    """Raises BadValue for a malformed course key."""
    try:
        validate_course_key(key)
    except ValidationError as error:
        raise BadValue("a course key", key) from error


def _write(new: list[CourseRun], changed: list[CourseRun]) -> None:
    """Saves the runs. Must be called in a transaction. Locks rows by ascending id, since another
    sync may write the same runs."""
    ids = [run.pk for run in changed]
    if changed:
        lock(CourseRun.objects.filter(pk__in=ids))
        update_rows(CourseRun, _WRITTEN_FIELDS, changed)
        settled = CourseRun.objects.filter(pk__in=ids)
        settled.update(observed_generation=F("generation"))
        settled.forget_work()
    _create(new)
    if changed:
        # The change may have removed the cause of a refusal.
        Enrollment.objects.refused().filter(run_id__in=ids).make_due()


def _row(observed: ObservedRun, pk: int, digest_of_run: str, now: datetime) -> CourseRun:
    """The row with the LMS's values, unsaved. pk: 0 for a new run."""
    values = {name: getattr(observed, name) for name in SYNCED_FIELDS}
    values["course_key"] = observed.course_key
    values |= {"digest": digest_of_run, "missing_since": None, "observed_at": now}
    run = CourseRun(**values).without_work()
    if pk:
        run.pk = pk
    else:
        run.observed_generation = run.generation  # in sync
    return run


def _create(runs: list[CourseRun]) -> None:
    """Creates runs and the rows of their modes. Runs that another sync created in the meantime stay
    unchanged."""
    if not runs:
        return
    in_order = sorted(runs, key=lambda run: run.course_key)
    CourseRun.objects.bulk_create(in_order, batch_size=_ROWS_A_WRITE, ignore_conflicts=True)
    created = CourseRun.objects.filter(course_key__in=[run.course_key for run in runs])
    RunModes.objects.bulk_create(
        [RunModes(run_id=pk) for pk in created.values_list("pk", flat=True)],
        batch_size=_ROWS_A_WRITE,
        ignore_conflicts=True,
    )


def known_runs() -> dict[str, KnownRun]:
    """Course key → run, of all runs that have a row here."""
    rows = CourseRun.objects.values_list("course_key", "pk", "digest").iterator()
    known = {key: KnownRun(pk, digest_of_run) for key, pk, digest_of_run in rows}
    missing = CourseRun.objects.filter(missing_since__isnull=False)
    for key, pk in missing.values_list("course_key", "pk").iterator():
        known[key] = KnownRun(pk, digest="")
    return known
