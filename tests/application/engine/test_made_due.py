"""A command reports on all rows that it made due, even if another worker claimed some of the
rows."""

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connection
from django.db.models import Q

from usher.application.accounts.models import LmsAccount
from usher.application.accounts.repair import repair
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.client.errors import Refused
from usher.engine.claim import Scope, claim
from usher.engine.kinds import Job, Outcome
from usher.engine.made_due import failures
from usher.engine.registry import kind
from usher.engine.services import reconcile, watch
from usher.engine.writeback import write_back

LEASE = 60.0


@contextmanager
def another_worker(work):
    """Runs ``work`` in another thread, with its own database connection."""
    done = []

    def run():
        try:
            work()
            done.append(True)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert done


@contextmanager
def an_engine_that_watches(*kinds):
    stop = threading.Event()
    with another_worker(lambda: watch(kinds, stop=stop, every=0.02)):
        try:
            yield
        finally:
            stop.set()


def finish_elsewhere(name, row, outcome):
    write_back(kind(name), [(Job(row, str(row)), outcome)])


@pytest.fixture
def account(system):
    return ensure_account(system.learner())


def test_failures_in_another_worker_are_reported(account):
    _, (row,) = claim(kind("account"), Scope(), 1, LEASE)
    finish_elsewhere("account", row, Outcome(error=Refused("No such country.", code="bad-country")))
    assert reconcile(["account"]).failed == 0, "the row was not requested"
    summary = reconcile(["account"], made_due={"account": Q(pk=row.pk)})
    assert summary.failed == 1
    assert summary.failures[0].what == account.username
    assert summary.failures[0].message == "No such country."


def test_rows_claimed_by_another_worker_are_waited_for(account):
    _, (row,) = claim(kind("account"), Scope(), 1, LEASE)

    def slow():
        time.sleep(0.5)
        finish_elsewhere(
            "account", row, Outcome(error=Refused("No such country.", code="bad-country"))
        )

    with another_worker(slow):
        summary = reconcile(["account"], made_due={"account": Q(pk=row.pk)})
    assert [failure.code for failure in summary.failures] == ["bad-country"]


def test_a_worker_that_died_is_waited_for_and_replaced(account):
    claim(kind("account"), Scope(), 1, 0.5)
    assert reconcile(["account"], made_due={"account": Q(pk=account.pk)}).changed == 1
    account.refresh_from_db()
    assert account.is_ready


def test_a_row_that_another_worker_retried_with_success_is_no_failure(account, settings):
    settings.OPENEDX_API_BASE_URL = "http://127.0.0.1:9"  # no server listens there
    rows = LmsAccount.objects.filter(pk=account.pk)

    def make_good(summary):
        assert rows.failing().set_work(error_code="", due_at=None) == 1

    summary = reconcile(["account"], made_due={"account": Q(pk=account.pk)}, progress=make_good)
    assert (summary.changed, summary.failed) == (1, 0)


def test_an_engine_that_watches_does_not_hide_what_fails(system):
    with an_engine_that_watches("run", "mode"):
        for number in range(20):
            key = f"course-v1:Nobody+Knows+{number}"
            (failure,) = sync_runs([key]).failures
            assert (failure.code, failure.what) == ("not-found", key)
    assert not CourseRun.objects.filter(course_key__contains="Nobody").exists()


def test_an_account_created_by_another_worker_is_ready_when_it_is_returned(system):
    with an_engine_that_watches("account", "token"):
        for _ in range(10):
            account = ensure_account(system.learner("given"), reconcile_now=True)
            assert account.is_ready, account.error_message


def test_a_repair_while_another_worker_watches_ends_with_all_repaired(system):
    users = [system.learner("other") for _ in range(10)]
    with an_engine_that_watches("account", "token"):
        for user in users:
            assert repair(user).failed == 0
            assert LmsAccount.objects.get(user=user).is_ready
            user.refresh_from_db()
            assert user.lms_token.expires_at


def test_failures_of_another_worker_name_learner_and_run(account):
    key = "course-v1:edX+DemoX+Demo_Course"
    enrollment = enroll(account.user, ensure_run(key))
    Enrollment.objects.filter(pk=enrollment.pk).set_work(error_code="closed", attempts=1)
    ((_, failure),) = failures({"enrollment": Q(pk=enrollment.pk)})
    assert failure.what == f"{account.username} in {key}"
