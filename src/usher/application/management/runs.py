"""The sync of course runs, for both names of the command."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from usher.application.lms.drift import drift
from usher.application.management.output import EngineCommand
from usher.application.runs.models import CourseMode, CourseRun, validate_course_key
from usher.application.runs.services import is_list_complete, sync_runs_and_modes
from usher.engine.summary import Summary


def sync(command: EngineCommand, keys: list[str] | None, options: Any) -> None:
    """Syncs the course runs with these keys, or all for None, and their modes. Raises CommandError
    for an invalid key, and SystemExit as ``EngineCommand.finish``."""
    if keys is not None:
        keys = [_validated_key(key) for key in keys]
    if options["dry_run"]:
        _show_differences(command, keys, options)
        return
    with command.progress("Course runs", options) as progress:
        run_summary, mode_summary = sync_runs_and_modes(
            keys,
            accept_missing=options["accept_missing"],
            progress=progress,
            waiting=lambda seconds: command.note(
                f"The LMS throttles the course list: waiting {seconds:.0f} s."
            ),
        )
    total = Summary().add(run_summary).add(mode_summary)
    unread = ""
    if not is_list_complete(run_summary):
        unread = "The LMS's list of course runs could not be read to its end."
    run_count = (
        run_summary.changed + run_summary.unchanged + run_summary.failed + run_summary.waiting_count
    )
    modes = CourseMode.objects.filter(run__missing_since__isnull=True)
    if keys is not None:
        modes = modes.filter(run__course_key__in=keys)
    mode_count = modes.count()
    counts = {
        "course_runs": run_summary.counts() | {"count": run_count},
        "modes": mode_summary.counts() | {"count": mode_count},
    }
    parts = {_with_noun(run_count, "course run"): run_summary}
    # Without the whole list, no modes are read.
    if not unread and (mode_count or mode_summary.failed):
        parts[f"{_with_noun(mode_count, 'mode')}, by course run"] = mode_summary
    command.finish(total, "course runs and modes", options, parts=parts, unread=unread, **counts)


def _show_differences(command: EngineCommand, keys: list[str] | None, options: Any) -> None:
    """Lists what a sync of the runs with these keys, or of all for None, would change."""
    changes = [difference for difference in drift(["run"]) if difference.action]
    if keys:
        changes = [change for change in changes if change.what in keys]
    if not options["json"]:
        for change in changes:
            command.stdout.write(f"{change.what} {change.field}: {change.here} → {change.there}")
    changed_keys = {change.what for change in changes}
    command.finish_dry_run(len(changed_keys), "course runs", options)


def _with_noun(count: int, noun: str) -> str:
    """``1 mode``, ``2 modes``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def find_run(key: str) -> CourseRun:
    """The course run with this key. Raises CommandError, which names the most similar key."""
    key = _validated_key(key)
    run = CourseRun.objects.filter(course_key=key).first()
    if run is not None:
        return run
    keys_by_lower = {
        known_key.lower(): known_key
        for known_key in CourseRun.objects.values_list("course_key", flat=True)
    }
    similar = get_close_matches(key.lower(), keys_by_lower, n=1, cutoff=0.8)
    if similar:
        raise CommandError(
            f"No course run here has the key {key}. Did you mean {keys_by_lower[similar[0]]}?"
        )
    raise CommandError(
        f"No course run here has the key {key}. If the LMS has it, run: "
        f"`python manage.py sync_courserun --run {key}`"
    )


def _validated_key(key: str) -> str:
    key = key.strip()
    if not key:
        raise CommandError("The course key is empty. It looks like course-v1:ORG+NUMBER+RUN.")
    try:
        validate_course_key(key)
    except ValidationError as error:
        raise CommandError(error.messages[0]) from error
    return key
