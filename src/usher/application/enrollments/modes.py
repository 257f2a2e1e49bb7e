"""Chooses and checks the modes of enrollments against the modes that a run is known to have."""

from __future__ import annotations

from copy import copy
from typing import Any

from django.db.models import prefetch_related_objects
from django.utils import timezone

from usher.application.adapter import AdapterFailed, adapter, log_failure
from usher.application.arguments import require_mode, require_run, require_user
from usher.application.enrollments.models import DEFAULT_MODE, Enrollment
from usher.application.runs.models import CourseRun

#: The free modes that are chosen first. Any other free mode comes after these, in the LMS's order.
_PREFERRED = (DEFAULT_MODE, "honor")


class ModeNotAllowed(ValueError):
    """The run is not known to have that mode, or the project's adapter doesn't allow it."""


def check_mode(user: Any, run: CourseRun, mode: str) -> None:
    """Raises ModeNotAllowed when the learner can't have that mode in the run, or ``mode`` is empty;
    and AdapterFailed when the project's adapter does not say which modes are allowed."""
    require_user(user)
    require_run(run)
    require_mode(mode)
    if not mode:
        raise ModeNotAllowed("mode is empty. Name one, such as 'verified'.")
    allowed = adapter().allowed_modes(user, run)
    if allowed is not None and mode not in allowed:
        names = ", ".join(dict.fromkeys(allowed)) or "none"
        raise ModeNotAllowed(
            f"{mode!r} is not a mode of {run.course_key}; it has {names}. If the LMS offers that "
            f"mode now, run `python manage.py sync_courserun --run {run.course_key}`"
        )


def choose_mode(user: Any, run: CourseRun) -> str:
    """The mode for a learner who named none: one that is free and still open, ``audit`` first.

    As long as the run's modes are not known, ``audit``, or a mode that the adapter allows. Raises
    ModeNotAllowed if every mode costs something, has ended, or is not allowed by the adapter.
    """
    require_user(user)
    require_run(run)
    run_with_modes = _with_modes(run)
    allowed = adapter().allowed_modes(user, run_with_modes)
    listed_modes = sorted(run_with_modes.modes.all(), key=lambda mode: mode.pk)
    if listed_modes:
        slugs = free_modes(run_with_modes)
        if allowed is not None:
            slugs = [slug for slug in slugs if slug in allowed]
    elif allowed is None:
        return DEFAULT_MODE
    else:
        slugs = list(allowed)
    for slug in _PREFERRED:
        if slug in slugs:
            return slug
    if slugs:
        return slugs[0]
    names = ", ".join(dict.fromkeys(mode.slug for mode in listed_modes)) or "no mode"
    raise ModeNotAllowed(
        f"{run.course_key} has no free mode that is open: it has {names}. "
        "Name the mode that the learner paid for: enroll(user, run, mode)."
    )


def _with_modes(run: CourseRun) -> CourseRun:
    """A copy of the run with its modes prefetched. The given run keeps no such cache."""
    run_copy = copy(run)
    prefetch_related_objects([run_copy], "modes")
    return run_copy


def free_modes(run: CourseRun) -> list[str]:
    """Modes of the run that cost nothing in any currency and have not ended."""
    require_run(run)
    now = timezone.now()
    # A mode has one row for each currency. In a dictionary, each slug is listed once, in order.
    slugs: dict[str, None] = {}
    not_free = set()
    for mode in sorted(run.modes.all(), key=lambda mode: mode.pk):
        slugs[mode.slug] = None
        has_ended = mode.expires_at is not None and mode.expires_at <= now
        if mode.min_price != 0 or has_ended:
            not_free.add(mode.slug)
    return [slug for slug in slugs if slug not in not_free]


def replace_default_mode(run: CourseRun) -> None:
    """Call after the modes of a run changed. Learners who got the default mode while the run's
    modes were unknown get a mode that the run has."""
    require_run(run)
    slugs = set(run.modes.values_list("slug", flat=True))
    if not slugs or DEFAULT_MODE in slugs:
        return
    rows = Enrollment.objects.filter(run=run, mode=DEFAULT_MODE, is_active=True, force=False)
    for row in rows.unsettled().select_related("user"):
        try:
            row.want(mode=choose_mode(row.user, run))
        except ModeNotAllowed:
            continue  # the LMS then refuses the enrollment and says why
        except AdapterFailed as error:
            log_failure(error)
