"""Reads course runs and enrollments for the pages; changes go through Usher's services."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, Prefetch, Q, QuerySet, When
from django.utils import timezone

from usher.application import conf, learner_texts
from usher.application.accounts.models import LmsAccount
from usher.application.adapter import AdapterFailed
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.modes import ModeNotAllowed, choose_mode, free_modes
from usher.application.learner_texts import LearnerText
from usher.application.runs.models import CourseMode, CourseRun

#: Runs on one page of the catalog.
PAGE_SIZE = 24
#: Characters of a search for runs; the rest is ignored.
MAX_QUERY_LENGTH = 100


@dataclass(frozen=True)
class EnrolledRun:
    """A learner's enrollment in a run. link: the URL that opens the run in the LMS, signed in; ''
    while no LMS is connected. status: the state of the enrollment as a text for the learner."""

    run: CourseRun
    enrollment: Enrollment
    link: str
    status: LearnerText

    @property
    def mode(self) -> str:
        """The learner's mode in the LMS; the desired mode without an active enrollment there."""
        row = self.enrollment
        return row.observed_mode if row.observed_is_active and row.observed_mode else row.mode


def visible_runs(words: str = "") -> QuerySet[CourseRun]:
    """The course runs that learners may see: current runs first, then future, then past runs.
    words: each of them must be part of the run's title, course key or organization."""
    now = timezone.now()
    runs = CourseRun.objects.filter(live=True, missing_since__isnull=True, hidden=False)
    words = words[:MAX_QUERY_LENGTH].replace("\x00", " ")  # PostgreSQL rejects NUL characters
    for word in words.split():
        runs = runs.filter(
            Q(title__icontains=word) | Q(course_key__icontains=word) | Q(org__icontains=word)
        )
    current_future_past = Case(When(end__lte=now, then=2), When(start__gt=now, then=1), default=0)
    return runs.order_by(current_future_past, "-start", "-id")


def find_run(course_key: str) -> CourseRun | None:
    """A run with its modes; None if it isn't offered to learners. Unlike ``visible_runs``, it
    finds runs that are hidden or missing in the LMS, too."""
    if "\x00" in course_key:  # PostgreSQL would reject the query
        return None
    modes = Prefetch("modes", CourseMode.objects.order_by("min_price", "id"))
    return (
        CourseRun.objects.filter(course_key=course_key, live=True).prefetch_related(modes).first()
    )


def is_free(user: Any, run: CourseRun) -> bool:
    """Whether the user can enroll in the run without paying. A run whose modes are not known counts
    as free. For an anonymous visitor, only the prices of the modes count: the adapter isn't
    called."""
    if not user.is_authenticated:
        return not run.modes.all() or bool(free_modes(run))
    try:
        choose_mode(user, run)
    except ModeNotAllowed:
        return False
    except AdapterFailed:
        return True  # not known; enrolling then shows an error
    return True


def find_enrolled_run(user: Any, run: CourseRun) -> EnrolledRun | None:
    """The run with the learner's enrollment; None if the learner is not enrolled."""
    if not user.is_authenticated:
        return None
    enrollments = Enrollment.objects.filter(user=user, run=run, is_active=True)
    enrollment = enrollments.select_related("run").first()
    if enrollment is None:
        return None
    return _enrolled_run(enrollment, lms_account(user))


def _enrolled_run(enrollment: Enrollment, account: LmsAccount | None) -> EnrolledRun:
    return EnrolledRun(
        run=enrollment.run,
        enrollment=enrollment,
        link=sign_in_link(enrollment.run),
        status=learner_texts.of_enrollment(enrollment, account),
    )


def lms_account(user: Any) -> LmsAccount | None:
    return LmsAccount.objects.filter(user=user).first()


def enrolled_runs(user: Any) -> list[EnrolledRun]:
    """The learner's enrollments, latest first, at most 200."""
    rows = (
        Enrollment.objects.filter(user=user, is_active=True)
        .select_related("run")
        .order_by("-id")[:200]
    )
    account = lms_account(user)
    return [_enrolled_run(row, account) for row in rows]


def statuses(user: Any, runs: Iterable[CourseRun]) -> dict[int, LearnerText]:
    """Id of a run → text about the user's enrollment in the run. Runs without an enrollment are
    left out; for a visitor, all runs are."""
    if not user.is_authenticated:
        return {}
    rows = Enrollment.objects.filter(user=user, run__in=runs, is_active=True).select_related("run")
    account = lms_account(user)
    return {row.run_id: learner_texts.of_enrollment(row, account) for row in rows}


def sign_in_link(run: CourseRun) -> str:
    """The URL that opens the run in the LMS with the learner signed in; '' while no LMS is
    connected."""
    settings = conf.settings()
    if not settings.base_redirect_url:
        return ""
    return settings.sign_in_url(settings.course_path(run.course_key))


def dashboard_link() -> str:
    """The URL that opens the learner's dashboard in the LMS; '' while no LMS is connected."""
    settings = conf.settings()
    return settings.sign_in_url() if settings.base_redirect_url else ""


def stage(run: CourseRun, now: datetime | None = None) -> str:
    """A phrase for the state of a run, such as ``Starts soon``. now: the time of the state; None
    for the present."""
    now = now or timezone.now()
    if run.end and run.end <= now:
        return "Ended"
    if run.enrollment_end and run.enrollment_end <= now:
        return "Enrollment closed"
    if run.enrollment_start and run.enrollment_start > now:
        return "Enrollment opens soon"
    if run.start and run.start > now:
        return "Starts soon"
    return "Open"
