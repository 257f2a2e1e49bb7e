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
from usher.application.states import State, next_step, state
from usher.client.errors import LmsError
from usher.client.payloads import ObservedMode, ObservedRun, read_run
from usher.console import lms_requests
from usher.console.comparisons import Comparison, compare_fields, compare_values
from usher.console.counting import MAX_EXACT_COUNT, Count, count_rows
from usher.console.refusals.services import Refusal, describe_refusals
from usher.engine.models import IN_SYNC
from usher.engine.registry import all_kinds

PAGE_SIZE = 50
#: The most refused enrollments that a run's page shows.
_MAX_REFUSED = 10
#: Title and attribute of each date of a run.
_DATES = (
    ("Starts", "start"),
    ("Ends", "end"),
    ("Enrollment from", "enrollment_start"),
    ("Enrollment until", "enrollment_end"),
)


@dataclass(frozen=True)
class RunDetails:
    """The contents of a run's page. counts: enrollments by state. refused: some of the refused
    enrollments."""

    run: CourseRun
    state: State
    next: str
    modes: list[Any]
    modes_state: RunModes | None
    dates: list[tuple[str, datetime | None]]
    counts: list[tuple[State, Count]]
    refused: list[Refusal] = field(default_factory=list)


def search_runs(text: str = "") -> QuerySet[CourseRun]:
    """The runs whose key or title contains each word of ``text``, the newest first; all runs for
    ''."""
    rows = CourseRun.objects.all()
    for word in text[:100].replace("\x00", " ").split():
        rows = rows.filter(Q(course_key__icontains=word) | Q(title__icontains=word))
    return rows.order_by("-id")


def read_run_details(run: CourseRun) -> RunDetails:
    """The contents of the run's page, from the database alone."""
    rows = Enrollment.objects.filter(run=run)
    # In the order of the index. Any other order would read all refused enrollments of the run.
    ordered = rows.refused().order_by("work__error_code", "work__refused_at", "work__object_id")
    refused = list(ordered.select_related("work")[:_MAX_REFUSED])
    return RunDetails(
        run=run,
        state=state(run),
        next=next_step(run),
        modes=list(run.modes.order_by("min_price", "id")),
        modes_state=RunModes.objects.filter(run=run).first(),
        dates=[(title, getattr(run, name)) for title, name in _DATES],
        counts=_count_by_state(run),
        refused=describe_refusals(all_kinds()["enrollment"], refused),
    )


def _count_by_state(run: CourseRun) -> list[tuple[State, Count]]:
    """Counts due and refused enrollments; the rest is in sync."""
    # Reads only the first due enrollments of all runs, since there is no index by run.
    due = Enrollment.objects.filter(work__due_at__isnull=False)
    longest_due_first = due.order_by("work__lane", "work__due_at", "work__object_id")
    unsettled_of_run = Q(run=run) & ~IN_SYNC
    counts = longest_due_first[: MAX_EXACT_COUNT + 1].aggregate(
        all=Counted("pk"),
        pending=Counted("pk", filter=unsettled_of_run & Q(work__attempts=0)),
        retrying=Counted("pk", filter=unsettled_of_run & Q(work__attempts__gt=0)),
    )
    is_partial = counts["all"] > MAX_EXACT_COUNT
    pending = Count(counts["pending"], is_estimate=is_partial)
    retrying = Count(counts["retrying"], is_estimate=is_partial)

    refused = count_rows(Enrollment.objects.filter(run=run).refused())
    all_rows = count_rows(Enrollment.objects.filter(run=run))
    settled = all_rows.value - pending.value - retrying.value - refused.value
    in_sync = Count(max(0, settled), is_estimate=all_rows.is_estimate or is_partial)
    return [
        (State.IN_SYNC, in_sync),
        (State.PENDING, pending),
        (State.RETRYING, retrying),
        (State.REFUSED, refused),
    ]


@dataclass(frozen=True)
class ComparedRun:
    """The LMS's current values of a run. lms_run: None if the LMS does not show the run. problem:
    why the LMS could not be read."""

    at: datetime
    lms_run: ObservedRun | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    problem: str = ""

    @property
    def difference_count(self) -> int:
        return sum(bool(comparison.differs) for comparison in self.comparisons)


def compare(run: CourseRun) -> ComparedRun:
    """Compares the run with the LMS; changes nothing."""
    now = timezone.now()
    lms = client()
    key = run.course_key
    try:
        with lms_requests.page_requests():
            lms.confirm_lms()  # raises LmsError if the server is not this application's LMS
            raw = sync.runs_by_key(lms, [key]).get(key)
            if raw is None:
                missing = Comparison("Course run", here=key, in_lms="not shown", differs=True)
                return ComparedRun(now, comparisons=[missing])
            lms_run = read_run(raw)
            modes = lms.run_modes(key)
    except LmsError as error:
        return ComparedRun(now, problem=f"{error.message} [{error.code}]")
    return ComparedRun(now, lms_run, _compare_values_of_run(run, lms_run, modes))


def _compare_values_of_run(
    run: CourseRun, lms_run: ObservedRun, lms_modes: list[ObservedMode]
) -> list[Comparison]:
    """Compares title, dates, and the price of each mode that the run has here or in the LMS."""
    comparisons = compare_fields(run, lms_run, [("Title", "title"), *_DATES])
    own_prices = {mode.slug: _price(mode) for mode in run.modes.all()}
    lms_prices = {mode.slug: _price(mode) for mode in lms_modes}
    for slug in {**own_prices, **lms_prices}:
        own_price = own_prices.get(slug, "none")
        lms_price = lms_prices.get(slug, "none")
        comparisons.append(compare_values(f"Mode {slug}", own_price, lms_price))
    return comparisons


def _price(mode: Any) -> str:
    return f"{mode.min_price} {mode.currency.upper()}" if mode.min_price else "free"


def synchronise(run: CourseRun) -> str:
    """Copies title, dates and modes from the LMS. Returns up to three errors as text, or ''. Raises
    InTransaction."""
    try:
        summary = sync_runs([run.course_key], modes=True)
    except LmsError as error:
        return error.message
    return "; ".join(f"{failure.kind}: {failure.message}" for failure in summary.failures[:3])
