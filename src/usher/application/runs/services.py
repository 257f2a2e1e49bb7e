"""Course runs: the functions that the rest of an application calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from usher.application.arguments import require_course_key, require_course_keys
from usher.application.lms.evidence import missing_limit
from usher.application.lms_client import client
from usher.application.runs import sync
from usher.application.runs.models import CourseRun, RunModes, problem_of_key, validate_course_key
from usher.client.client import LmsClient
from usher.client.errors import LmsError, NotTheLms
from usher.engine.notify import notify_workers
from usher.engine.summary import Failure, Summary

__all__ = ["UnknownRun", "ensure_run", "is_list_complete", "sync_runs", "sync_runs_and_modes"]

#: Seconds that a sync of all runs may wait for the LMS's throttle.
PATIENCE_SECONDS = 1800.0
#: Seconds that the sync of one run by its key may wait for retries.
_PATIENCE_FOR_ONE_RUN = 90.0
_KEYS_A_STATEMENT = 500


class UnknownRun(ValueError):
    """The value is not a course key."""


def ensure_run(course_key: str) -> CourseRun:
    """The run's row. If there is none, creates one that is due. Raises UnknownRun for a malformed
    key."""
    require_course_key(course_key)
    try:
        validate_course_key(course_key)
    except ValidationError as error:
        raise UnknownRun(error.messages[0]) from error
    run, is_created = CourseRun.objects.get_or_create(course_key=course_key)
    if is_created:
        RunModes.objects.get_or_create(run=run)
        notify_workers()
    return run


def sync_runs(
    keys: Iterable[str] | None = None,
    *,
    modes: bool = False,
    waiting: sync.Waiting = lambda seconds: None,
    progress: Callable[[Summary], None] | None = None,
    patience: float = PATIENCE_SECONDS,
    accept_missing: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Summary:
    """Updates course runs from the LMS and adds new ones.

    A known run that the LMS does not show is marked as missing and reported as failed. A key that
    is unknown both here and in the LMS is reported as failed and not saved. Without ``keys``,
    errors of the LMS are in the summary as a failure of the course list.

    keys: course keys; all runs by default. modes: also update the runs' modes, with one request a
    run. waiting: called when the LMS throttles, with the seconds to wait. progress: called with the
    summary so far. patience: seconds to wait for the throttle in all. accept_missing: runs that the
    LMS does not show count as deleted in the LMS, however many there are. meanwhile: called about
    once a second while the course list is read; what it raises ends the sync. Raises UnknownRun for
    a malformed key.
    """
    options: dict[str, Any] = {"progress": progress, "accept_missing": accept_missing}
    if keys is not None:
        course_keys = require_course_keys(keys)
        run_summary, mode_summary = _sync_some(course_keys, modes=modes, **options)
        return run_summary.add(mode_summary)
    summary = _sync_all(waiting=waiting, patience=patience, meanwhile=meanwhile, **options)
    if modes and is_list_complete(summary):
        summary.add(_sync_modes(**options))
    return summary


def sync_runs_and_modes(
    keys: Iterable[str] | None = None,
    *,
    waiting: sync.Waiting = lambda seconds: None,
    progress: Callable[[Summary], None] | None = None,
    patience: float = PATIENCE_SECONDS,
    accept_missing: bool = False,
) -> tuple[Summary, Summary]:
    """As ``sync_runs`` with ``modes``, with a summary of the runs and one of their modes."""
    options: dict[str, Any] = {"progress": progress, "accept_missing": accept_missing}
    if keys is not None:
        return _sync_some(require_course_keys(keys), modes=True, **options)
    summary = _sync_all(waiting=waiting, patience=patience, meanwhile=None, **options)
    mode_summary = _sync_modes(**options) if is_list_complete(summary) else Summary()
    return summary, mode_summary


def is_list_complete(summary: Summary) -> bool:
    """Whether the LMS's course list was read to its end."""
    return not summary.unread_lists


def _sync_modes(**options: Any) -> Summary:
    from usher.engine.services import recheck, reconcile

    return reconcile(["mode"], made_due=recheck(["mode"]), **options)


def _sync_all(
    *,
    waiting: sync.Waiting,
    patience: float,
    meanwhile: Callable[[], None] | None,
    progress: Callable[[Summary], None] | None,
    accept_missing: bool,
) -> Summary:
    """Syncs all runs. If the LMS fails, saves the runs that were read until then, adds a failure of
    the course list to the summary, and marks no run as missing."""
    lms = client()
    fetched = sync.read_pages(lms, waiting=waiting, patience=patience, meanwhile=meanwhile)
    writer = sync.Writer(sync.known_runs())
    summary = writer.summary
    try:
        for page in fetched:
            writer.compare(page.results)
            if progress:
                progress(summary)
        missing = _find_missing(lms, writer, accept_missing)
    except LmsError as error:
        writer.flush()
        summary.fail_list(Failure.from_error("run", "list of the LMS", error))
        return summary
    writer.flush()
    _mark_missing(missing, summary)
    return summary


def _find_missing(lms: LmsClient, writer: sync.Writer, accept_missing: bool) -> set[str]:
    """Keys of known runs that the LMS does not show. Raises LmsError when too many are missing, or
    when the LMS's answers contradict each other.

    The course list may change while its pages are read. So runs that were on no page are requested
    by their keys. Some runs that were on a page are requested in the same way, to check that the
    LMS shows runs by key.
    """
    keys_not_in_lms = sorted(writer.keys_not_in_lms)
    if not keys_not_in_lms:
        return set()
    lms.confirm_lms()
    runs = sync.runs_by_key(lms, keys_not_in_lms)
    writer.compare(list(runs.values()))
    missing = {key for key in keys_not_in_lms if key not in runs and not problem_of_key(key)}
    if missing and writer.sample_keys:
        shows_runs_by_key = bool(sync.runs_by_key(lms, writer.sample_keys))
        if not shows_runs_by_key:
            raise NotTheLms("The LMS's course list and its answers by key contradict each other.")
    if not accept_missing:
        known_count = len(writer.observed_keys)
        missing_count = len(missing & writer.observed_keys)
        # Every run was requested, so the sample is the total.
        missing_limit().check(
            "run", missing=missing_count, sample_size=known_count, total=known_count
        )
    return missing


def _sync_some(
    keys: list[str],
    *,
    modes: bool,
    progress: Callable[[Summary], None] | None,
    accept_missing: bool,
) -> tuple[Summary, Summary]:
    """Syncs the runs with these keys. Returns a summary of the runs, and one of their modes, which
    is empty without ``modes``."""
    from usher.engine.services import Patience, recheck, reconcile

    run_summary, mode_summary = Summary(), Summary()
    parts = [("run", run_summary), ("mode", mode_summary)] if modes else [("run", run_summary)]
    for key in keys:
        is_new = not CourseRun.objects.filter(course_key=key).exists()
        run = ensure_run(key)
        for kind, summary in parts:
            made_due = recheck([kind], related_to=run)
            result = reconcile(
                [kind],
                related_to=run,
                made_due=made_due,
                patience=Patience(_PATIENCE_FOR_ONE_RUN),
                progress=progress,
                accept_missing=accept_missing,
            )
            missing = CourseRun.objects.filter(pk=run.pk, missing_since__isnull=False)
            is_missing = missing.exists()
            if is_missing and is_new:
                # A mistyped key must not stay and be reported as missing by every later sync.
                missing.delete()
                result.failures = [
                    replace(failure, message=_NOT_SAVED) for failure in result.failures
                ]
            summary.add(result)
            if is_missing:  # the LMS shows no modes of a missing run
                break
    return run_summary, mode_summary


def _mark_missing(keys: set[str], summary: Summary) -> None:
    """Marks these runs as missing in the LMS and as refused, and adds them to the summary."""
    if not keys:
        return
    now = timezone.now()
    sorted_keys = sorted(keys)
    for start in range(0, len(sorted_keys), _KEYS_A_STATEMENT):
        keys_of_statement = sorted_keys[start : start + _KEYS_A_STATEMENT]
        rows = CourseRun.objects.filter(course_key__in=keys_of_statement)
        rows.filter(missing_since__isnull=True).update(missing_since=now)
        rows.set_work(
            error_class="rejected",
            error_code="not-found",
            error_message=MISSING_TEXT,
            refused_at=now,
            due_at=None,
        )
    for key in sorted_keys:
        failure = Failure(
            kind="run",
            what=key,
            failure_class="rejected",
            code="not-found",
            message=MISSING_TEXT,
        )
        summary.fail(failure)


_NOT_SHOWN = (
    "The LMS does not show this run: it does not exist there, or the service worker may not see "
    "it. "
)
#: The message for a run that has a row here.
MISSING_TEXT = _NOT_SHOWN + "Publish it in the LMS. If its key is mistyped, delete the run here."
_NOT_SAVED = _NOT_SHOWN + "It was not added here. Is the key right?"


def refresh_soon(course_key: str) -> None:
    """Call when a run has changed in the LMS: adds an unknown run, and makes the run due. Ignores
    an invalid course key."""
    with suppress(UnknownRun):
        run = ensure_run(course_key)
        CourseRun.objects.filter(pk=run.pk).compare_again()


def runs_of(keys: Iterable[str]) -> dict[str, Any]:
    """Course key → run, without keys that are unknown here."""
    keys = require_course_keys(keys)
    return {run.course_key: run for run in CourseRun.objects.filter(course_key__in=keys)}
