"""The data of a course run's page: dates and modes here and in the LMS, enrollments by state."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Count as Counted
from django.db.models import Q, QuerySet
from django.utils import timezone

from usher.application.enrollments.models import Enrollment
from usher.application.lms_client import client
from usher.application.runs import sync
from usher.application.runs.models import CourseRun, RunModes
from usher.application.runs.services import sync_runs
from usher.application.states import State, state, when
from usher.client.errors import LmsError
from usher.client.payloads import ModeSeen, RunSeen, read_run
from usher.console import asking
from usher.console.counting import EXACTLY, Count, bounded
from usher.console.refusals.services import Example, examples
from usher.console.sides import Side, side_of, sides_of
from usher.engine.models import IN_SYNC
from usher.engine.registry import all_kinds

PAGE = 50
#: The most refused enrollments that a run's page shows.
_REFUSED = 10
_DATES = (
    ("Starts", "start"),
    ("Ends", "end"),
    ("Enrollment from", "enrollment_start"),
    ("Enrollment until", "enrollment_end"),
)


@dataclass(frozen=True)
class RunPage:
    """counts: enrollments by state. refused: some that are refused."""

    run: CourseRun
    state: State
    next: str
    modes: list[Any]
    modes_state: RunModes | None
    dates: list[tuple[str, datetime | None]]
    counts: list[tuple[State, Count]]
    refused: list[Example] = field(default_factory=list)


def runs(words: str = "") -> QuerySet[CourseRun]:
    """Searches by key or title; the newest first."""
    found = CourseRun.objects.all()
    for word in words[:100].replace("\x00", " ").split():
        found = found.filter(Q(course_key__icontains=word) | Q(title__icontains=word))
    return found.order_by("-id")


def page_of(run: CourseRun) -> RunPage:
    """Reads the database only."""
    rows = Enrollment.objects.filter(run=run)
    # In the order of the index. Any other order would read all refused enrollments of the run.
    by_reason = rows.refused().order_by("work__error_code", "work__parked_at", "work__object_id")
    refused = list(by_reason.select_related("work")[:_REFUSED])
    return RunPage(
        run=run,
        state=state(run),
        next=when(run),
        modes=list(run.modes.order_by("min_price", "id")),
        modes_state=RunModes.objects.filter(run=run).first(),
        dates=[(title, getattr(run, name)) for title, name in _DATES],
        counts=_by_state(run),
        refused=examples(all_kinds()["enrollment"], refused),
    )


def _by_state(run: CourseRun) -> list[tuple[State, Count]]:
    """Counts due and refused enrollments; the rest is in sync."""
    of_run, due = Q(run=run), ~IN_SYNC
    # Reads the first thousands of all due enrollments, since there is no index by run.
    some = Enrollment.objects.filter(work__due_at__isnull=False)
    found = some.order_by("work__lane", "work__due_at", "work__object_id")[: EXACTLY + 1].aggregate(
        all=Counted("pk"),
        pending=Counted("pk", filter=of_run & due & Q(work__attempts=0)),
        retrying=Counted("pk", filter=of_run & due & Q(work__attempts__gt=0)),
    )
    is_part = found["all"] > EXACTLY
    refused = bounded(Enrollment.objects.filter(of_run).refused())
    every = bounded(Enrollment.objects.filter(of_run))
    rest = every.value - found["pending"] - found["retrying"] - refused.value
    return [
        (State.IN_SYNC, Count(max(0, rest), every.about or is_part)),
        (State.PENDING, Count(found["pending"], is_part)),
        (State.RETRYING, Count(found["retrying"], is_part)),
        (State.REFUSED, refused),
    ]


@dataclass(frozen=True)
class ComparedRun:
    """The LMS's current values of a run. seen: None if the LMS does not show the run. problem: why
    the LMS could not be read."""

    at: datetime
    seen: RunSeen | None = None
    sides: list[Side] = field(default_factory=list)
    problem: str = ""

    @property
    def differences(self) -> int:
        return sum(bool(side.differs) for side in self.sides)


def compare(run: CourseRun) -> ComparedRun:
    """Reads the run from the LMS; changes nothing."""
    now, lms = timezone.now(), client()
    try:
        with asking.for_a_page():
            lms.confirm()
            raw = sync.runs_by_key(lms, [run.course_key]).get(run.course_key)
            if raw is None:
                return ComparedRun(
                    now, sides=[Side("Course run", run.course_key, "not shown", True)]
                )
            seen = read_run(raw)
            modes = lms.run_modes(run.course_key)
    except LmsError as error:
        return ComparedRun(now, problem=f"{error.message} [{error.code}]")
    return ComparedRun(now, seen, _sides(run, seen, modes))


def _sides(run: CourseRun, seen: RunSeen, modes: list[ModeSeen]) -> list[Side]:
    sides = sides_of(run, seen, [("Title", "title"), *_DATES])
    here = {mode.slug: _price(mode) for mode in run.modes.all()}
    there = {mode.slug: _price(mode) for mode in modes}
    for slug in dict.fromkeys((*here, *there)):
        sides.append(side_of(f"Mode {slug}", here.get(slug, "none"), there.get(slug, "none")))
    return sides


def _price(mode: Any) -> str:
    return f"{mode.min_price} {mode.currency.upper()}" if mode.min_price else "free"


def synchronise(run: CourseRun) -> str:
    """Copies title, dates and modes from the LMS. Returns errors, or ''. Raises InTransaction."""
    try:
        summary = sync_runs([run.course_key], modes=True)
    except LmsError as error:
        return error.message
    return "; ".join(f"{one.kind}: {one.message}" for one in summary.failures[:3])
