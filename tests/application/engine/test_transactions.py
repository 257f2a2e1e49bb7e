"""Transactions: the order of locks, repetition after a deadlock, and requests that wait for a
commit."""

import threading
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from tests.application.conftest import LONGEST_WAIT, make_learner
from tests.application.engine.claiming import claim_rows
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import (
    deactivate,
    ensure_account,
    follow_profile,
    retire,
)
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll, unenroll
from usher.application.lms.evidence import Evidence
from usher.application.runs import sync
from usher.application.runs.models import CourseRun, RunModes
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import access_token_for
from usher.client.batch import ACCOUNTS
from usher.client.errors import LmsError
from usher.engine import clock, notify
from usher.engine.kinds import Job, Outcome
from usher.engine.registry import kind
from usher.engine.services import reconcile
from usher.engine.transactions import InTransaction, retry_transaction
from usher.engine.writeback import write_back

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"
#: The context that ``prepare`` of accounts gets if the LMS has the batch API.
CONTEXT_WITH_BATCH_API = SimpleNamespace(batch={ACCOUNTS}, evidence=Evidence())


def run_concurrently(*works):
    """Runs these functions at the same time, each with its own database connection. Returns the
    exceptions that the functions raised."""
    exceptions = []

    def run(work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the caller asserts on it
            exceptions.append(error)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return exceptions


# Nothing is sent to the LMS within a transaction


def test_reconciling_now_within_a_transaction_is_refused(system):
    user, run = system.learner(), ensure_run(DEMO)
    enroll(user, run)
    for act in (
        lambda: enroll(user, run, reconcile_now=True),
        lambda: unenroll(user, run, reconcile_now=True),
        lambda: change_mode(user, run, "verified", reconcile_now=True),
        lambda: ensure_account(user, reconcile_now=True),
        lambda: access_token_for(user),
        lambda: reconcile(["account"], user=user),
    ):
        with transaction.atomic(), pytest.raises(InTransaction, match="on_commit"):
            act()
    with transaction.atomic(), pytest.raises(InTransaction) as refused:
        access_token_for(user)
    assert "reconcile_now" not in str(refused.value), "access_token_for has no such argument"
    # Outside of a transaction, it works.
    row = enroll(user, run, reconcile_now=True)
    assert row.is_settled, row.error_message


def test_reconciling_now_works_in_on_commit(system):
    user, run, rows = system.learner(), ensure_run(DEMO), []
    with transaction.atomic():
        enroll(user, run)
        transaction.on_commit(lambda: rows.append(enroll(user, run, reconcile_now=True)))
    assert rows[0].is_settled, rows[0].error_message


def test_a_valid_stored_token_is_returned_within_a_transaction(system):
    user = system.learner()
    token = access_token_for(user)
    with transaction.atomic():
        assert access_token_for(user) == token


# Deadlocks


def test_outcomes_of_accounts_and_enrollments_can_be_written_concurrently(transactional_db):
    run = ensure_run(DEMO)
    for _ in range(30):
        user = make_learner()
        ensure_account(user)
        enroll(user, run)
    unknown_user = LmsError("The LMS does not know the learner.", code="unknown-user")
    for _ in range(15):  # a deadlock would not occur each time
        LmsAccount.objects.all().make_due()
        Enrollment.objects.all().make_due()
        accounts = claim_rows("account", limit=100)
        enrollments = claim_rows("enrollment", limit=100)
        assert len(accounts) == len(enrollments) == 30
        barrier = threading.Barrier(2)

        def write(name, jobs, make_outcome, barrier=barrier):
            barrier.wait(LONGEST_WAIT)
            write_back(kind(name), [(job, make_outcome()) for job in jobs])

        # The accounts are in the opposite order of the enrollments. Locks in these orders would
        # cause deadlocks.
        accounts.reverse()
        prepared = kind("account").prepare(accounts, CONTEXT_WITH_BATCH_API)
        jobs_of_accounts = [job for job, _ in prepared]
        jobs_of_enrollments = [Job(row, display_name=str(row)) for row in enrollments]
        exceptions = run_concurrently(
            lambda jobs=jobs_of_accounts: write("account", jobs, make_creation_outcome),
            lambda jobs=jobs_of_enrollments: write(
                "enrollment", jobs, lambda: Outcome(error=unknown_user)
            ),
        )
        assert exceptions == []


def make_creation_outcome():
    """The outcome for an account that the LMS has created without returning tokens."""
    from usher.application.accounts.creation import NewAccount

    values = {"created_in_lms_at": clock.database_now(), "observed_is_active": True}
    return Outcome(values, changed=True, extra=NewAccount(tokens=None))


def test_retry_transaction_repeats_a_transaction_after_a_deadlock(transactional_db):
    """Deadlocks are possible, because other code, such as the project's, may lock rows in another
    order."""
    first, second = (ensure_account(make_learner()).pk for _ in range(2))
    attempts, barrier = [], threading.Barrier(2)

    def lock_both(pk_to_lock_first, pk_to_lock_next):
        def lock_one_after_the_other():
            attempts.append(pk_to_lock_first)
            LmsAccount.objects.filter(pk=pk_to_lock_first).update(renamings=1)
            # At the first attempts, both transactions hold a lock before they wait for the other.
            # SQLite locks the whole database, so it has no deadlock.
            if len(attempts) <= 2 and connection.vendor == "postgresql":
                barrier.wait(LONGEST_WAIT)
            LmsAccount.objects.filter(pk=pk_to_lock_next).update(renamings=2)

        retry_transaction(lock_one_after_the_other)

    exceptions = run_concurrently(
        lambda: lock_both(first, second), lambda: lock_both(second, first)
    )
    assert exceptions == []
    # PostgreSQL aborts one of the two transactions, which is then repeated.
    assert len(attempts) == (3 if connection.vendor == "postgresql" else 2)


# Two concurrent syncs


def test_two_concurrent_syncs_can_add_the_same_runs(transactional_db):
    runs = [
        {"course_id": f"course-v1:edX+Both+{number}", "name": f"Run {number}"}
        for number in range(40)
    ]
    barrier = threading.Barrier(2)

    def write(runs_in_order):
        writer = sync.Writer(sync.known_runs())
        writer.compare(runs_in_order)
        barrier.wait(LONGEST_WAIT)
        writer.flush()

    assert run_concurrently(lambda: write(runs), lambda: write(runs[::-1])) == []
    assert CourseRun.objects.filter(title__startswith="Run ").count() == len(runs)
    assert RunModes.objects.count() == len(runs)


# Clocks


def test_a_web_process_whose_clock_is_ahead_gets_a_token(system, monkeypatch):
    user, correct_now = system.learner(), timezone.now
    ensure_account(user, reconcile_now=True)
    LmsToken.objects.filter(user=user).update(access_token="", expires_at=None)
    monkeypatch.setattr(timezone, "now", lambda: correct_now() + timedelta(seconds=30))
    assert access_token_for(user)
    account = ensure_account(system.learner())
    assert LmsAccount.objects.due().filter(pk=account.pk).exists()
    if connection.vendor == "postgresql":  # SQLite uses this machine's clock
        in_ten_seconds = correct_now() + timedelta(seconds=10)
        assert account.due_at < in_ten_seconds
        assert ensure_run("course-v1:edX+Ahead+1").due_at < in_ten_seconds


# Messages to workers


def test_every_change_of_the_desired_state_notifies_a_worker(
    transactional_db, settings, monkeypatch
):
    settings.CELERY_BROKER_URL = "redis://localhost:9/0"  # never contacted: _send is replaced
    notified = []
    monkeypatch.setattr(notify, "_send", notified.append)
    user, run = make_learner(), ensure_run(DEMO)
    account = ensure_account(user)
    LmsAccount.objects.update(created_in_lms_at=clock.database_now())
    enroll(user, run)

    def notifies_a_worker(act):
        """True if ``act`` sends a message about this user, or about no particular user."""
        notified.clear()
        act()
        return bool(notified) and notified[0] in (user.pk, None)

    assert notifies_a_worker(lambda: change_mode(user, run, "verified"))
    assert notifies_a_worker(lambda: deactivate(user))
    assert notifies_a_worker(lambda: follow_profile(user))
    user.name = "Another Name"
    assert notifies_a_worker(user.save)
    assert notifies_a_worker(lambda: retire(user))
    assert notifies_a_worker(lambda: LmsAccount.objects.get(pk=account.pk).want(is_active=False))
    assert notifies_a_worker(lambda: ensure_run("course-v1:edX+New+1"))
    # This changes nothing, because the account is deactivated already.
    assert not notifies_a_worker(
        lambda: LmsAccount.objects.get(pk=account.pk).want(is_active=False)
    )
