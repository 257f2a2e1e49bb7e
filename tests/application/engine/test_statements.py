"""The number of SQL statements per action. Statements that begin or end a transaction count,
too."""

import threading

import pytest

from tests.application.conftest import make_learner
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.metrics import conditions
from usher.application.metrics.recorder import recorder
from usher.application.runs.models import CourseMode
from usher.application.runs.services import ensure_run
from usher.engine import heartbeat, runner, services, tasks
from usher.engine.heartbeat import beat

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"
#: The most statements of an action of a learner, of a worker that sends one enrollment, and of a
#: pass without due rows.
MAX_OF_ACTION, MAX_OF_ONE_ENROLLMENT, MAX_OF_EMPTY_PASS = 8, 12, 2


@pytest.fixture
def learner(transactional_db):
    """A learner with an LMS account."""
    user = make_learner()
    ensure_account(user)
    LmsAccount.objects.filter(user=user).update(observed_generation=1)
    LmsAccount.objects.filter(user=user).forget_work()
    return user


@pytest.fixture
def run(transactional_db):
    """A course run with a free mode and a paid one."""
    course_run = ensure_run(DEMO)
    CourseMode.objects.create(run=course_run, slug="verified", min_price=10)
    CourseMode.objects.create(run=course_run, slug="audit", min_price=0)
    return course_run


def test_each_action_of_a_learner_needs_a_limited_number_of_statements(
    learner, run, django_assert_max_num_queries
):
    with django_assert_max_num_queries(MAX_OF_ACTION):
        row = enroll(learner, run)
    assert row.mode == "audit"
    assert row.due_at
    with django_assert_max_num_queries(MAX_OF_ACTION):
        assert enroll(learner, run, "verified").mode == "verified"
    with django_assert_max_num_queries(MAX_OF_ACTION):
        unenroll(learner, run)
    with django_assert_max_num_queries(MAX_OF_ACTION):
        assert enroll(learner, run).mode == "audit"
    with django_assert_max_num_queries(MAX_OF_ACTION):
        change_mode(learner, run, "verified")


def test_two_concurrent_requests_for_one_enrollment_create_one_row(learner, run, monkeypatch):
    first = enroll(learner, run)
    # The second request sees no row, as if the first had not committed yet.
    monkeypatch.setattr(
        "usher.application.enrollments.services.Enrollment.objects.filter",
        lambda **_: type(first).objects.none(),
    )
    enrollment = enroll(learner, run, "verified")
    assert (enrollment.pk, enrollment.mode) == (first.pk, "verified")


@pytest.fixture
def nothing_due(system, monkeypatch):
    """No row, no sweep and no record of the LMS's pauses is due. A heartbeat is due."""
    monkeypatch.setattr(services, "prepare_sweep", lambda: None)
    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)  # so that beat() writes at once
    # Forgets the pauses that other tests caused: recording their end would add statements.
    monkeypatch.setattr(conditions, "_recorded", set())
    services.reconcile()
    recorder.forget()
    beat()
    monkeypatch.setattr(heartbeat, "_last_beat", 0.0)  # so that the test's first heartbeat is due


def test_a_pass_without_due_rows_needs_a_limited_number_of_statements(
    nothing_due, django_assert_max_num_queries
):
    with django_assert_max_num_queries(MAX_OF_EMPTY_PASS):
        assert services.reconcile().failed == 0
    with django_assert_max_num_queries(MAX_OF_EMPTY_PASS):
        tasks.work(None)


def test_an_idle_worker_needs_a_limited_number_of_statements(
    nothing_due, monkeypatch, django_assert_max_num_queries
):
    monkeypatch.setattr(heartbeat, "record_stop", lambda: None)  # written when the worker stops

    class SetAtFirstWait(threading.Event):
        """Stops the worker as soon as it has nothing to do."""

        def wait(self, timeout=None):
            self.set()

    with django_assert_max_num_queries(MAX_OF_EMPTY_PASS):
        services.watch(stop=SetAtFirstWait())


def test_a_worker_needs_a_limited_number_of_statements_to_send_one_enrollment(
    system, monkeypatch, django_assert_max_num_queries
):
    user, run = system.learner(), ensure_run(DEMO)
    ensure_account(user, reconcile_now=True)
    services.reconcile()
    row = enroll(user, run)
    beat()  # no heartbeat is due during the measurement
    # A worker that waits for the LMS would repeatedly query for urgent rows.
    monkeypatch.setattr(runner, "_CHECK_SECONDS", 60)
    with django_assert_max_num_queries(MAX_OF_ONE_ENROLLMENT):
        tasks.work(user.pk)
    row.refresh_from_db()
    assert row.is_settled
    assert system.enrollments(user.lms_account.username) == {DEMO: ("audit", True)}
