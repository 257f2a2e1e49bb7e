"""Course runs are updated from a real embedded LMS."""

import threading
from datetime import UTC, datetime

import pytest

from tests.support import faults
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.runs import sync, tasks
from usher.application.runs.models import CourseMode, CourseRun, RunModes
from usher.application.runs.services import UnknownRun, ensure_run, sync_runs
from usher.client.client import LmsClient
from usher.client.errors import LmsError
from usher.engine.services import reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"
E2E = "course-v1:edX+E2E-101+course"
COURSES = "/api/courses/v1/courses/"


@pytest.fixture(scope="session")
def lms_with_many_runs(connected_lms):
    connected_lms.shell(
        "from django.core.management import call_command as c; c('seed_load', '--runs', '230')"
    )


@pytest.fixture
def system_with_many_runs(lms_with_many_runs, system):
    return system


@pytest.mark.each_database
def test_all_runs_come_with_titles_and_dates(system):
    summary = sync_runs(modes=True)
    assert summary.failed == 0, summary.failures
    run = CourseRun.objects.get(course_key=E2E)
    assert run.title == "E2E Test Course"
    assert run.start == datetime(2016, 1, 1, tzinfo=UTC)
    assert run.end == datetime(2030, 1, 1, tzinfo=UTC)
    assert run.enrollment_end == datetime(2029, 12, 31, tzinfo=UTC)
    assert run.is_settled
    assert {m.slug: m.min_price for m in run.modes.all()} == {"audit": 0, "verified": 49}


@pytest.mark.each_database
def test_only_what_changed_is_written(system_with_many_runs):
    first = sync_runs()
    assert first.failed == 0, first.failures
    assert first.changed == CourseRun.objects.count() >= 230
    observed_at = CourseRun.objects.get(course_key=DEMO).observed_at
    system_with_many_runs.lms.shell(
        "from usher.embedded.course_overviews.models import CourseOverview as C; "
        f"C.objects.filter(id={E2E!r}).update(display_name='Another title')"
    )
    second = sync_runs()
    assert (second.changed, second.failed) == (1, 0)
    assert second.unchanged == first.changed - 1
    assert CourseRun.objects.get(course_key=E2E).title == "Another title"
    assert CourseRun.objects.get(course_key=DEMO).observed_at == observed_at
    system_with_many_runs.lms.shell(
        "from django.core.management import call_command as c; c('seed_courses')"
    )


@pytest.mark.each_database
def test_a_run_that_the_lms_does_not_show_is_reported_and_comes_back(system):
    ensure_run("course-v1:Nobody+Knows+This")
    summary = sync_runs()
    assert [f.what for f in summary.failures] == ["course-v1:Nobody+Knows+This"]
    assert CourseRun.objects.get(course_key="course-v1:Nobody+Knows+This").missing_since
    CourseRun.objects.filter(course_key=DEMO).update(missing_since="2026-01-01T00:00:00Z")
    assert sync_runs(["course-v1:edX+DemoX+Demo_Course"]).changed == 1
    assert CourseRun.objects.get(course_key=DEMO).missing_since is None


def test_one_run_by_its_key(system):
    summary = sync_runs([DEMO], modes=True)
    assert summary.failed == 0, summary.failures
    assert CourseRun.objects.get().title == "Demonstration Course"
    assert CourseMode.objects.count() == 2
    assert sync_runs([DEMO], modes=True).changed == 0


def test_a_malformed_key_is_named(system):
    with pytest.raises(UnknownRun, match="not-a-key"):
        sync_runs(["not-a-key"])


def test_the_upgrade_deadline_is_the_end_of_the_verified_mode(system):
    change = (
        "from usher.embedded.course_modes.models import CourseMode as M; from datetime import *; "
        f"m = M.objects.get(course_id={E2E!r}, mode_slug='verified'); "
        "m._expiration_datetime = {}; m.save()"
    )
    system.lms.shell(change.format("datetime(2029, 6, 1, tzinfo=timezone.utc)"))
    try:
        sync_runs([E2E], modes=True)
        run = CourseRun.objects.get(course_key=E2E)
        assert run.upgrade_deadline == datetime(2029, 6, 1, tzinfo=UTC)
    finally:
        system.lms.shell(change.format("None"))
    RunModes.objects.filter(run=run).make_due()
    sync_runs([E2E], modes=True)
    run.refresh_from_db()
    assert run.upgrade_deadline is None


@pytest.mark.parametrize("fault", [faults.THROTTLED, faults.THROTTLED_IN_BODY])
def test_a_throttled_list_is_waited_for(system_with_many_runs, faulty, fault):
    waits = []
    faulty.break_next(fault, path=COURSES, times=1)
    summary = sync_runs(waiting=waits.append)
    assert summary.failed == 0, summary.failures
    assert summary.changed >= 230
    assert waits
    assert waits[0] <= 1.1


@pytest.mark.parametrize(
    "fault", [faults.ERROR_500, faults.UNAVAILABLE, faults.RESET, faults.HALF_BODY, faults.BAD_JSON]
)
def test_a_failing_page_is_asked_for_again(system_with_many_runs, faulty, fault):
    faulty.break_next(fault, path=COURSES, times=3)
    summary = sync_runs()
    assert summary.failed == 0, summary.failures
    assert summary.changed >= 230


def test_a_list_that_can_not_be_had_marks_nothing_as_missing(system_with_many_runs, faulty):
    sync_runs()
    faulty.break_all(faults.UNAVAILABLE, path="page=2")
    summary = sync_runs()
    assert summary.failed == 1
    assert summary.failures[0].what == "list of the LMS"
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()


def test_a_list_that_hangs_is_given_up_sooner(faulty, settings, monkeypatch):
    settings.EDX_API_CLIENT_TIMEOUT = 0.3
    monkeypatch.setattr(sync, "_FAILING_SECONDS", 0.5)
    faulty.break_all(faults.SLOW, path=COURSES)
    summary = sync_runs()
    assert [failure.code for failure in summary.failures] == ["timed-out"]
    assert len(faulty.requests) == 2


def test_a_long_sync_by_celery_does_not_delay_learners(system, monkeypatch):
    """While a single worker reads the LMS's course list, the same worker processes interactive
    rows."""
    user = system.learner()
    ensure_account(user)
    served = threading.Event()

    def reconcile(*arguments, **options):
        summary = real_reconcile(*arguments, **options)
        if LmsAccount.objects.get().is_ready:
            served.set()
        return summary

    def slow(lms, *arguments, **options):
        assert served.wait(30), "the learner waits for the whole list"
        return runs_page(lms, *arguments, **options)

    real_reconcile, runs_page = tasks.reconcile, LmsClient.runs_page
    monkeypatch.setattr(tasks, "reconcile", reconcile)
    monkeypatch.setattr(LmsClient, "runs_page", slow)
    tasks.sync_all_runs()
    assert CourseRun.objects.filter(course_key=DEMO, observed_at__isnull=False).exists()


def test_a_sync_by_celery_ends_when_the_worker_is_stopped(system, monkeypatch):
    event, gave_up = threading.Event(), threading.Event()

    def slow(lms, *arguments, **options):
        tasks.stopping.set()
        if not event.wait(30):
            gave_up.set()
        raise LmsError("not answered before the worker stopped")

    monkeypatch.setattr(LmsClient, "runs_page", slow)
    try:
        tasks.sync_all_runs()
        assert not gave_up.is_set()
    finally:
        event.set()
        tasks.stopping.clear()


def test_the_number_of_concurrent_pages_follows_their_time():
    slow, quick = sync.Pace(), sync.Pace()
    slow.record_time(1.0)
    quick.record_time(0.001)
    assert (slow.concurrency, quick.concurrency) == (2, sync.MOST_CONCURRENT)
    for _ in range(3):
        slow.record_time(1.0)
    assert slow.concurrency == 5
    slow.record_time(2.5)
    assert slow.concurrency == 2
    quick.record_time(0.5)
    assert quick.concurrency == sync.MOST_CONCURRENT // 2


def test_a_malformed_key_of_before_stops_no_other_run_and_is_refused_by_its_name(system):
    """Rows have malformed keys if they are older than Usher's check of keys, or if a data migration
    created them."""
    sync_runs(modes=True)
    bad = CourseRun.objects.create(course_key="course-v1:edX+Bad+1")
    RunModes.objects.create(run=bad)
    CourseRun.objects.filter(pk=bad.pk).update(course_key="course v1 bad")
    learner = system.learner()
    for run in CourseRun.objects.all():
        enroll(learner, run, force=True)  # also in runs with closed enrollment
    CourseRun.objects.recheck()
    reconcile()
    summary = sync_runs(modes=True)
    codes = {failure.code for failure in summary.failures}
    assert codes <= {"malformed-course-key"}, summary.failures
    good = CourseRun.objects.exclude(pk=bad.pk)
    assert not good.unsettled().exists()
    waiting = Enrollment.objects.filter(run__in=good).unsettled()
    assert [(row.run.course_key, row.error_code, row.error_message) for row in waiting] == []
    bad.refresh_from_db()
    assert bad.error_code == "malformed-course-key"
    assert bad.missing_since is None
    assert "course-v1:ORG+NUMBER+RUN" in bad.error_message
    assert Enrollment.objects.get(run=bad).error_code == "malformed-course-key"
