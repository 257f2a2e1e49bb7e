"""A command reports on all rows that it made due, even if another worker claimed some of the
rows."""

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connection
from django.db.models import Q

from tests.application.conftest import UNREACHABLE_URL
from tests.application.engine.claiming import claim_rows
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.repair import repair
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll
from usher.application.runs.models import CourseRun
from usher.application.runs.services import ensure_run, sync_runs
from usher.client.errors import Refused
from usher.engine.kinds import Job, Outcome
from usher.engine.made_due import failures
from usher.engine.registry import kind
from usher.engine.services import reconcile, watch
from usher.engine.writeback import write_back


@contextmanager
def another_worker(work):
    """Runs ``work`` in another thread, with its own database connection. At the end, checks that
    ``work`` raised nothing."""
    successes = []

    def run():
        try:
            work()
            successes.append(True)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert successes


@contextmanager
def watching_worker(*kinds):
    """Within this context, another worker watches these kinds."""
    stop = threading.Event()
    with another_worker(lambda: watch(kinds, stop=stop, every=0.02)):
        try:
            yield
        finally:
            stop.set()


def write_back_by_another_worker(name, row, outcome):
    """Records the outcome of a row, as the worker does that has claimed it."""
    write_back(kind(name), [(Job(row, display_name=str(row)), outcome)])


@pytest.fixture
def account(system):
    """The requested account of a new learner."""
    return ensure_account(system.learner())


def test_a_row_that_failed_in_another_worker_is_reported_if_the_command_made_it_due(account):
    (row,) = claim_rows("account")
    write_back_by_another_worker(
        "account", row, Outcome(error=Refused("No such country.", code="bad-country"))
    )
    assert reconcile(["account"]).failed == 0, "this command did not make the row due"
    summary = reconcile(["account"], made_due={"account": Q(pk=row.pk)})
    assert summary.failed == 1
    assert summary.failures[0].what == account.username
    assert summary.failures[0].message == "No such country."


def test_reconcile_waits_for_rows_claimed_by_another_worker(account):
    (row,) = claim_rows("account")

    def fail_later():
        time.sleep(0.5)  # meanwhile, the command begins to wait for the row
        write_back_by_another_worker(
            "account", row, Outcome(error=Refused("No such country.", code="bad-country"))
        )

    with another_worker(fail_later):
        summary = reconcile(["account"], made_due={"account": Q(pk=row.pk)})
    assert [failure.code for failure in summary.failures] == ["bad-country"]


def test_reconcile_processes_the_row_of_a_dead_worker_after_its_lease(account):
    claim_rows("account", lease_seconds=0.5)  # the outcome is never written back
    assert reconcile(["account"], made_due={"account": Q(pk=account.pk)}).changed == 1
    account.refresh_from_db()
    assert account.is_ready


def test_a_row_that_another_worker_retried_successfully_is_not_reported_as_failed(
    account, settings
):
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    rows = LmsAccount.objects.filter(pk=account.pk)

    def settle_row(summary):
        """Settles the row after this command's attempt, as another worker would."""
        assert rows.failing().set_work(error_code="", due_at=None) == 1

    summary = reconcile(["account"], made_due={"account": Q(pk=account.pk)}, progress=settle_row)
    assert (summary.changed, summary.failed) == (1, 0)


def test_failures_are_reported_while_another_worker_watches(system):
    with watching_worker("run", "mode"):
        # Repeated, because the other worker claims only some of the rows first.
        for number in range(20):
            key = f"course-v1:Nobody+Knows+{number}"
            (failure,) = sync_runs([key]).failures
            assert (failure.code, failure.what) == ("not-found", key)
    assert not CourseRun.objects.filter(course_key__contains="Nobody").exists()


def test_ensure_account_returns_a_ready_account_while_another_worker_watches(system):
    with watching_worker("account", "token"):
        for _ in range(10):
            account = ensure_account(system.learner("given"), reconcile_now=True)
            assert account.is_ready, account.error_message


def test_a_repair_waits_until_all_is_repaired_while_another_worker_watches(system):
    users = [system.learner("other") for _ in range(10)]
    with watching_worker("account", "token"):
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
