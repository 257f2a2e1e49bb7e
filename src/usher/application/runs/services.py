"""Course runs: the functions that the rest of an application calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from django.core.exceptions import ValidationError
from django.utils import timezone

from usher.application.lms.evidence import limit
from usher.application.lms_client import client
from usher.application.runs import sync
from usher.application.runs.models import CourseRun, RunModes, validate_course_key
from usher.client.client import LmsClient
from usher.client.errors import LmsError, NotTheLms
from usher.engine.notify import notify_workers
from usher.engine.summary import Failure, Summary

__all__ = ["UnknownRun", "ensure_run", "sync_runs"]

#: Seconds that a sync of all runs may wait for the LMS's throttle.
PATIENCE = 1800.0


class UnknownRun(ValueError):
    """The value is not a course key."""


def ensure_run(course_key: str) -> CourseRun:
    """The run's row. A new one is created and due. Raises UnknownRun for a malformed key."""
    try:
        validate_course_key(course_key)
    except ValidationError as error:
        raise UnknownRun(error.messages[0]) from error
    run, made = CourseRun.objects.get_or_create(course_key=course_key)
    if made:
        RunModes.objects.get_or_create(run=run)
        notify_workers()
    return run


def sync_runs(
    keys: Iterable[str] | None = None,
    *,
    modes: bool = False,
    waiting: sync.Waiting = lambda seconds: None,
    progress: Callable[[Summary], None] | None = None,
    patience: float = PATIENCE,
    accept_missing: bool = False,
    meanwhile: Callable[[], None] | None = None,
) -> Summary:
    """Updates course runs from the LMS and adds new ones.

    A known run that the LMS does not show is marked as missing and reported as failed. A key that
    is unknown both here and in the LMS is reported as failed and not saved. Without ``keys``,
    errors of the LMS are in the summary as a failure of the course list.

    keys: course keys; all runs by default. modes: also update the runs' modes, with one request a
    run. waiting: called when the LMS throttles, with the seconds to wait. progress: called with the
    summary so far. patience: seconds to wait for the throttle in all. accept_missing: treat runs
    that the LMS does not show as deleted there, however many they are. meanwhile: called about once
    a second while the course list is read; what it raises ends the sync. Raises UnknownRun for a
    malformed key.
    """
    from usher.engine.services import recheck, reconcile

    if keys is not None:
        return _sync_some(list(keys), modes, progress, accept_missing)
    lms = client()
    fetched = sync.pages(lms, waiting, patience, meanwhile)
    writer = sync.Writer(sync.known_runs())
    summary = writer.summary
    try:
        for page in fetched:
            writer.take(page.results)
            if progress:
                progress(summary)
        missing = _missing(lms, writer, accept_missing)
    except LmsError as error:
        writer.flush()
        summary.fail(Failure("run", "course list", error.failure_class, error.code, error.message))
        return summary
    writer.flush()
    _mark_missing(missing, summary)
    if modes:
        made_due = recheck(["mode"])
        summary.add(
            reconcile(["mode"], made_due=made_due, progress=progress, accept_missing=accept_missing)
        )
    return summary


def _missing(lms: LmsClient, writer: sync.Writer, accept_missing: bool) -> set[str]:
    """Keys of known runs that the LMS does not show. Raises LmsError when too many are missing, or
    when the LMS's answers contradict each other.

    The course list may change while its pages are read. So runs that were on no page are requested
    by their keys; requesting runs that were on a page checks that this works.
    """
    unseen = sorted(writer.unseen)
    if not unseen:
        return set()
    lms.confirm()
    found = sync.runs_by_key(lms, unseen)
    writer.take(list(found.values()))
    missing = set(unseen) - set(found)
    if missing and (seen := writer.seen_keys) and not sync.runs_by_key(lms, seen):
        raise NotTheLms("The LMS's course list and its answers by key contradict each other.")
    if not accept_missing:
        known = len(writer.present)
        limit().refuse("run", len(missing & writer.present), known, known)
    return missing


def _sync_some(
    keys: list[str],
    modes: bool,
    progress: Callable[[Summary], None] | None,
    accept_missing: bool,
) -> Summary:
    from usher.engine.services import Patience, recheck, reconcile

    summary, kinds = Summary(), ["run", "mode"] if modes else ["run"]
    for key in keys:
        is_new = not CourseRun.objects.filter(course_key=key).exists()
        run = ensure_run(key)
        made_due = recheck(kinds, about=run)
        patience = Patience(90)
        summary.add(
            reconcile(
                kinds,
                about=run,
                made_due=made_due,
                patience=patience,
                progress=progress,
                accept_missing=accept_missing,
            )
        )
        if is_new:
            # A mistyped key must not stay and be reported as missing by every later sync.
            CourseRun.objects.filter(pk=run.pk, missing_since__isnull=False).delete()
    return summary


def _mark_missing(keys: set[str], summary: Summary) -> None:
    """Marks these runs as missing in the LMS and as refused, and adds them to the summary."""
    if not keys:
        return
    now = timezone.now()
    ordered = sorted(keys)
    for start in range(0, len(ordered), 500):
        rows = CourseRun.objects.filter(course_key__in=ordered[start : start + 500])
        rows.filter(missing_since__isnull=True).update(missing_since=now)
        rows.set_work(
            error_class="rejected",
            error_code="not-found",
            error_message=MISSING[:500],
            parked_at=now,
            due_at=None,
        )
    for key in ordered:
        summary.fail(Failure("run", key, "rejected", "not-found", MISSING))


MISSING = (
    "The LMS does not show this run: it isn't there, or the service worker may not see it. "
    "Publish it there, or remove it here."
)


def refresh_soon(course_key: str) -> None:
    """Call when a run has changed in the LMS: adds it if it is new, and makes it due. Ignores an
    invalid course key."""
    with suppress(UnknownRun):
        run = ensure_run(course_key)
        CourseRun.objects.filter(pk=run.pk).recheck()


def runs_of(keys: Iterable[str]) -> dict[str, Any]:
    """Course key → run, without keys that are unknown here."""
    return {run.course_key: run for run in CourseRun.objects.filter(course_key__in=list(keys))}
