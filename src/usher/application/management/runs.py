"""The sync of course runs, for both names of the command."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError

from usher.application.lms.drift import drift
from usher.application.management.output import EngineCommand
from usher.application.runs.models import validate_course_key
from usher.application.runs.services import sync_runs


def sync(command: EngineCommand, keys: list[str] | None, options: Any) -> None:
    """Syncs the course runs of these keys and their modes; all for None."""
    if keys is not None:
        _check(keys)
    if options["dry_run"]:
        wanted = set(keys or [])
        found = [d for d in drift(["run"]) if not wanted or d.what in wanted]
        for difference in found if not options["json"] else []:
            command.stdout.write(
                f"{difference.what} {difference.field}: {difference.here} → {difference.there}"
            )
        command.would_change(len({d.what for d in found}), "course runs", options)
        return
    with command.progress("Course runs", options) as progress:
        summary = sync_runs(
            keys,
            modes=True,
            accept_missing=options["accept_missing"],
            progress=progress,
            waiting=lambda seconds: command.note(
                f"The LMS throttles the course list: waiting {seconds:.0f} s."
            ),
        )
    command.finish(summary, "course runs and their modes", options)


def _check(keys: list[str]) -> None:
    for key in keys:
        try:
            validate_course_key(key)
        except ValidationError as error:
            raise CommandError(error.messages[0]) from error
