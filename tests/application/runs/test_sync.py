"""Course runs are updated from a real embedded LMS."""

import json
import threading
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from tests.support import faults
from tests.support.impostors import Impostor
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.lms.drift import drift
from usher.application.records.models import Grade
from usher.application.runs import sync, tasks
from usher.application.runs.models import CourseMode, CourseRun, RunModes
from usher.application.runs.services import UnknownRun, ensure_run, sync_runs
from usher.client.client import LmsClient
from usher.client.errors import LmsError
from usher.engine.services import recheck, reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"
E2E = "course-v1:edX+E2E-101+course"
COURSES = "/api/courses/v1/courses/"


#: A list of more than two pages.
MANY_RUNS = 230


@pytest.fixture(scope="session")
def lms_with_many_runs(connected_lms):
    """Adds many course runs to the LMS."""
    connected_lms.shell(
        "from django.core.management import call_command as c; "
        f"c('seed_load', '--runs', '{MANY_RUNS}')"
    )


@pytest.fixture
def system_with_many_runs(lms_with_many_runs, system):
    return system


@pytest.mark.each_database
def test_a_sync_of_all_runs_stores_titles_dates_and_modes(system):
    summary = sync_runs(modes=True)
    assert summary.failed == 0, summary.failures
    run = CourseRun.objects.get(course_key=E2E)
    assert run.title == "E2E Test Course"
    assert run.start == datetime(2016, 1, 1, tzinfo=UTC)
    assert run.end == datetime(2030, 1, 1, tzinfo=UTC)
    assert run.enrollment_end == datetime(2029, 12, 31, tzinfo=UTC)
    assert run.is_settled
    assert {mode.slug: mode.min_price for mode in run.modes.all()} == {"audit": 0, "verified": 49}


@pytest.mark.each_database
def test_a_second_sync_writes_only_changed_runs(system_with_many_runs):
    first = sync_runs()
    assert first.failed == 0, first.failures
    assert first.changed == CourseRun.objects.count() >= MANY_RUNS
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
        # Restores the title for other tests.
        "from django.core.management import call_command as c; c('seed_courses')"
    )


@pytest.mark.each_database
def test_a_run_is_marked_as_missing_until_the_lms_shows_it_again(system):
    unknown_key = "course-v1:Nobody+Knows+This"
    ensure_run(unknown_key)
    summary = sync_runs()
    assert [failure.what for failure in summary.failures] == [unknown_key]
    assert CourseRun.objects.get(course_key=unknown_key).missing_since
    CourseRun.objects.filter(course_key=DEMO).update(missing_since="2026-01-01T00:00:00Z")
    assert sync_runs([DEMO]).changed == 1
    assert CourseRun.objects.get(course_key=DEMO).missing_since is None


def test_drift_announces_no_change_of_a_run_that_is_marked_as_missing(system):
    key = ensure_run("course-v1:Nobody+Knows+This").course_key
    [before] = [difference for difference in drift(["run"]) if difference.what == key]
    assert before.action == "mark it as missing"
    sync_runs()
    [after] = drift(["run"])
    assert (after.what, after.action, after.note) == (key, "", "marked as missing here")


def test_a_sync_of_one_run_stores_only_that_run(system):
    summary = sync_runs([DEMO], modes=True)
    assert summary.failed == 0, summary.failures
    assert CourseRun.objects.get().title == "Demonstration Course"
    assert CourseMode.objects.count() == 2
    assert sync_runs([DEMO], modes=True).changed == 0


def test_a_sync_of_a_malformed_key_fails_and_names_the_key(system):
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
    # The verified mode has no end any more.
    RunModes.objects.filter(run=run).make_due()
    sync_runs([E2E], modes=True)
    run.refresh_from_db()
    assert run.upgrade_deadline is None


@pytest.mark.parametrize("fault", [faults.THROTTLED, faults.THROTTLED_IN_BODY])
def test_a_sync_waits_while_the_lms_limits_requests_for_the_list(
    system_with_many_runs, faulty, fault
):
    waits = []
    faulty.break_next(fault, path=COURSES, times=1)
    summary = sync_runs(waiting=waits.append)
    assert summary.failed == 0, summary.failures
    assert summary.changed >= MANY_RUNS
    first_wait = waits[0]
    assert first_wait <= 1.1, "the answers of the proxy name one second"


@pytest.mark.parametrize(
    "fault", [faults.ERROR_500, faults.UNAVAILABLE, faults.RESET, faults.HALF_BODY, faults.BAD_JSON]
)
def test_a_sync_repeats_the_request_for_a_page_that_failed(system_with_many_runs, faulty, fault):
    faulty.break_next(fault, path=COURSES, times=3)  # fewer than the tries for one page
    summary = sync_runs()
    assert summary.failed == 0, summary.failures
    assert summary.changed >= MANY_RUNS


def test_no_run_is_marked_as_missing_if_the_list_cannot_be_read(system_with_many_runs, faulty):
    sync_runs()
    faulty.break_all(faults.UNAVAILABLE, path="page=2")
    summary = sync_runs()
    assert (summary.failed, summary.unread_lists) == (0, 1)
    assert summary.failures[0].what == "list of the LMS"
    assert not CourseRun.objects.filter(missing_since__isnull=False).exists()


def test_a_sync_gives_up_after_two_requests_for_the_list_have_timed_out(
    faulty, settings, monkeypatch
):
    settings.EDX_API_CLIENT_TIMEOUT = 0.3
    monkeypatch.setattr(sync, "_FAILING_SECONDS", 0.5)  # over after the second timeout
    faulty.break_all(faults.SLOW, path=COURSES)
    summary = sync_runs()
    assert [failure.code for failure in summary.failures] == ["timed-out"]
    assert len(faulty.requests) == 2


def test_a_celery_worker_processes_interactive_rows_while_it_reads_the_list(system, monkeypatch):
    user = system.learner()
    ensure_account(user)
    account_ready = threading.Event()

    def reconcile_and_check_account(*arguments, **options):
        summary = reconcile(*arguments, **options)
        if LmsAccount.objects.get().is_ready:
            account_ready.set()
        return summary

    def read_page_after_account(lms, *arguments, **options):
        assert account_ready.wait(30), "the learner waits for the whole list"
        return read_page(lms, *arguments, **options)

    reconcile, read_page = tasks.reconcile, LmsClient.runs_page
    monkeypatch.setattr(tasks, "reconcile", reconcile_and_check_account)
    monkeypatch.setattr(LmsClient, "runs_page", read_page_after_account)
    tasks.sync_all_runs()
    assert CourseRun.objects.filter(course_key=DEMO, observed_at__isnull=False).exists()


def test_a_sync_in_a_celery_worker_ends_when_the_worker_is_stopped(system, monkeypatch):
    sync_ended, lms_answered = threading.Event(), threading.Event()

    def stop_worker_and_answer_late(lms, *arguments, **options):
        """Stops the worker during the request, which fails when the sync has ended, or else after
        30 seconds: only then ``lms_answered`` is set."""
        tasks.stopping.set()
        if not sync_ended.wait(30):
            lms_answered.set()
        raise LmsError("not answered before the worker stopped")

    monkeypatch.setattr(LmsClient, "runs_page", stop_worker_and_answer_late)
    try:
        tasks.sync_all_runs()
        assert not lms_answered.is_set()
    finally:
        sync_ended.set()
        tasks.stopping.clear()


def test_the_number_of_concurrent_pages_depends_on_the_time_of_a_page():
    slow, quick = sync.Pace(), sync.Pace()
    slow.record_time(1.0)
    quick.record_time(0.001)
    assert (slow.concurrency, quick.concurrency) == (2, sync.MAX_CONCURRENT)
    for _ in range(3):  # each page that takes as long as the first one adds one
        slow.record_time(1.0)
    assert slow.concurrency == 5
    # A page that takes much longer halves the number.
    slow.record_time(2.5)
    assert slow.concurrency == 2
    quick.record_time(0.5)
    assert quick.concurrency == sync.MAX_CONCURRENT // 2


def test_a_stored_run_with_a_malformed_key_fails_and_all_other_runs_are_settled(system):
    """A stored key can be malformed if the row is older than Usher's check of keys, or if a data
    migration created it."""
    sync_runs(modes=True)
    malformed = CourseRun.objects.create(course_key="course-v1:edX+Bad+1")
    RunModes.objects.create(run=malformed)
    CourseRun.objects.filter(pk=malformed.pk).update(course_key="course v1 bad")
    learner = system.learner()
    for run in CourseRun.objects.all():
        enroll(learner, run, force=True)  # also in runs with closed enrollment
    CourseRun.objects.compare_again()
    reconcile()
    Grade.objects.create(user=learner, run=malformed)
    reconcile(["grade"])
    summary = sync_runs(modes=True)
    codes = {failure.code for failure in summary.failures}
    assert codes <= {"malformed-course-key"}, summary.failures
    others = CourseRun.objects.exclude(pk=malformed.pk)
    assert not others.unsettled().exists()
    waiting = Enrollment.objects.filter(run__in=others).unsettled()
    assert [(row.run.course_key, row.error_code, row.error_message) for row in waiting] == []
    malformed.refresh_from_db()
    assert malformed.error_code == "malformed-course-key"
    assert malformed.missing_since is None
    assert "course-v1:ORG+NUMBER+RUN" in malformed.error_message
    for model in (Enrollment, Grade):
        row = model.objects.get(run=malformed)
        assert (row.error_code, row.refused_at is not None) == ("malformed-course-key", True)


@pytest.mark.any_database
@pytest.mark.parametrize("kept", [0, 1])
def test_one_incomplete_answer_deletes_no_modes(system, faulty, kept):
    """A mode that the LMS no longer shows is deleted only if two answers agree."""
    run = ensure_run(DEMO)
    sync_runs(modes=True)
    assert run.modes.count() == 2
    count_of_answers = 0

    def spoil(body):
        """Leaves out modes of the first answer."""
        nonlocal count_of_answers
        count_of_answers += 1
        modes = json.loads(body)
        return json.dumps(modes[:kept]).encode() if count_of_answers == 1 else body

    path_of_modes = f"/course_modes/v1/courses/{quote(DEMO, safe='')}"
    faulty.impostor = Impostor("incomplete", spoil=spoil, only=(path_of_modes,))
    reconcile(["mode"], made_due=recheck(["mode"], related_to=run))
    assert count_of_answers > 1
    assert run.modes.count() == 2


def test_a_mode_that_two_answers_lack_is_deleted(system, faulty):
    run = ensure_run(DEMO)
    sync_runs(modes=True)
    path_of_modes = f"/course_modes/v1/courses/{quote(DEMO, safe='')}"
    # All answers lack a mode, so the answer that the worker asks for as a check lacks it, too.
    faulty.impostor = Impostor(
        "one mode",
        spoil=lambda body: json.dumps(json.loads(body)[:1]).encode(),
        only=(path_of_modes,),
    )
    reconcile(["mode"], made_due=recheck(["mode"], related_to=run))
    assert run.modes.count() == 1
