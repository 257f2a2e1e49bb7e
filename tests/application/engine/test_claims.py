"""Claims, leases and fencing, with several workers on one database."""

import re
import threading
from datetime import timedelta

import pytest
from django.db import close_old_connections, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.application.conftest import make_learner
from tests.application.engine.claiming import ENDED, LEASE_SECONDS, claim_rows
from usher.application.accounts.models import Retirement
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll, unenroll
from usher.application.runs.services import ensure_run
from usher.client.errors import (
    AccessRefused,
    CircuitOpen,
    Refused,
    Throttled,
    Unreachable,
)
from usher.engine.claim import Scope, release, renew, reset_implausible_times, restore_lost
from usher.engine.kinds import Job, Outcome
from usher.engine.registry import kind
from usher.engine.writeback import write_back


@pytest.fixture
def row_ids(transactional_db):
    """The ids of 40 due retirements."""
    retirements = [Retirement.objects.create(username=f"gone{number}") for number in range(40)]
    return [row.pk for row in retirements]


def test_concurrent_workers_claim_each_row_once(row_ids):
    claimed_ids, errors = [], []

    def work():
        try:
            while True:
                claimed = claim_rows("retirement", limit=3)
                if not claimed:
                    return
                claimed_ids.extend(row.pk for row in claimed)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert sorted(claimed_ids) == sorted(row_ids)


def test_a_worker_whose_lease_ended_cannot_write_back_after_another_claim(row_ids):
    (row_of_slow,) = claim_rows("retirement", lease_seconds=ENDED)
    same_row = Scope(first_id=row_of_slow.pk, end_id=row_of_slow.pk + 1)
    (row_of_quick,) = claim_rows("retirement", scope=same_row)
    late_outcome = [(Job(row_of_slow, display_name="slow"), Outcome(changed=True))]
    assert write_back(kind("retirement"), late_outcome) == [], "no row was written"
    row = Retirement.objects.get(pk=row_of_slow.pk)
    assert row.lease_owner == row_of_quick.lease_owner
    assert row.observed_generation == 0
    outcome = [(Job(row_of_quick, display_name="quick"), Outcome(changed=True))]
    write_back(kind("retirement"), outcome)
    row.refresh_from_db()
    assert row.is_settled
    assert row.lease_owner == ""
    # The slow worker's request may have reached the LMS last, so the row is checked again.
    assert row.due_at is not None


def test_rows_can_be_claimed_again_after_release_but_not_after_renewal(row_ids):
    claimed = claim_rows("retirement", limit=40, lease_seconds=ENDED)
    renew(kind("retirement"), claimed, LEASE_SECONDS)
    assert claim_rows("retirement", limit=40) == []
    release(kind("retirement"), claimed[:5])
    assert len(claim_rows("retirement", limit=40)) == 5


def test_a_scope_claims_only_rows_in_its_range_of_ids(row_ids):
    scope = Scope(first_id=row_ids[10], end_id=row_ids[15])
    claimed = claim_rows("retirement", scope=scope, limit=100)
    assert sorted(row.pk for row in claimed) == row_ids[10:15]


def test_a_row_changed_while_it_is_processed_stays_due(transactional_db):
    user, run = make_learner(), ensure_run("course-v1:a+b+c")
    enroll(user, run)
    (row,) = claim_rows("enrollment")
    unenroll(user, run)
    outcome = Outcome({"observed_mode": "audit", "observed_is_active": True}, changed=True)
    write_back(kind("enrollment"), [(Job(row, display_name="x"), outcome)])
    row = Enrollment.objects.get()
    assert row.is_active is False
    assert (row.observed_generation, row.generation) == (1, 2)
    assert row.due_at is not None


def test_a_row_made_due_while_it_is_processed_stays_due(row_ids):
    (row,) = claim_rows("retirement")
    Retirement.objects.filter(pk=row.pk).make_due()
    write_back(kind("retirement"), [(Job(row, display_name="x"), Outcome())])
    assert Retirement.objects.get(pk=row.pk).due_at is not None


def test_a_row_stays_due_if_a_message_of_the_lms_arrives_while_it_is_processed(row_ids):
    """The worker may have read the LMS before the change that the message reports."""
    pk = row_ids[0]
    (row,) = claim_rows("retirement", scope=Scope(first_id=pk, end_id=pk + 1))
    assert Retirement.objects.filter(pk=pk).compare_again() == 1
    write_back(kind("retirement"), [(Job(row, display_name="x"), Outcome())])
    assert Retirement.objects.filter(pk=pk).due().exists()


def claim_and_fail(error):
    """Claims the first due row, lets it fail with this error, and returns it."""
    (row,) = claim_rows("retirement")
    write_back(kind("retirement"), [(Job(row, display_name="x"), Outcome(error=error))])
    return Retirement.objects.get(pk=row.pk)


def test_the_class_of_a_failure_decides_whether_and_when_a_row_is_retried(row_ids):
    now = timezone.now()
    # Retried soon; the attempt counts.
    row = claim_and_fail(Unreachable("gone", code="no-connection"))
    assert (row.attempts, row.error_class, row.error_code) == (1, "transient", "no-connection")
    assert now < row.due_at < now + timedelta(seconds=10)
    # Retried after the pause that the LMS or the circuit breaker names; no attempt counts.
    row = claim_and_fail(Throttled("wait", retry_after=100.0))
    assert row.attempts == 0
    assert row.due_at > now + timedelta(seconds=99)
    row = claim_and_fail(CircuitOpen("open", retry_after=5.0))
    assert row.attempts == 0
    # This error concerns all rows, so it refuses none.
    row = claim_and_fail(AccessRefused("no"))
    assert row.error_class == "systemic"
    assert row.refused_at is None
    # Not retried until something makes the row due.
    row = claim_and_fail(Refused("never", code="because"))
    assert row.refused_at is not None
    assert row.due_at is None
    assert Retirement.objects.filter(pk=row.pk).make_due() == 1
    row.refresh_from_db()
    assert row.refused_at is None
    assert row.attempts == 0


def test_the_delay_after_many_attempts_is_about_an_hour(row_ids):
    (row,) = claim_rows("retirement")
    row.work.attempts = 40
    now = timezone.now()
    write_back(
        kind("retirement"), [(Job(row, display_name="x"), Outcome(error=Unreachable("gone")))]
    )
    row.refresh_from_db()
    # The delay is random: from half an hour to an hour and a half.
    assert now + timedelta(minutes=29) < row.due_at < now + timedelta(minutes=91)


def test_timestamps_that_a_clock_jump_moved_into_the_future_are_reset(row_ids):
    implausible_time = timezone.now() + timedelta(days=30)
    Retirement.objects.filter(pk=row_ids[0]).set_work(attempts=3, due_at=implausible_time)
    Retirement.objects.filter(pk=row_ids[1]).set_work(
        lease_owner="dead", lease_until=implausible_time
    )
    assert reset_implausible_times(kind("retirement"), LEASE_SECONDS) == 2
    assert len(claim_rows("retirement", limit=100)) == len(row_ids)


def test_unsettled_rows_with_a_time_in_the_future_are_due_after_a_reset(row_ids):
    in_two_hours = timezone.now() + timedelta(hours=2)
    Retirement.objects.filter(pk__in=row_ids[:3]).set_work(due_at=in_two_hours)
    settled_row = Retirement.objects.filter(pk=row_ids[3])
    settled_row.update(observed_generation=1)
    settled_row.set_work(due_at=in_two_hours)
    assert reset_implausible_times(kind("retirement"), LEASE_SECONDS) == 3
    assert Retirement.objects.due().filter(pk__in=row_ids[:3]).count() == 3
    assert not Retirement.objects.due().filter(pk=row_ids[3]).exists()


def test_a_sweep_uses_indexes_and_scans_no_whole_table(row_ids):
    with CaptureQueriesContext(connection) as queries:
        reset_implausible_times(kind("retirement"), LEASE_SECONDS)
        restore_lost(kind("retirement"))
    statements = [
        query["sql"]
        for query in queries
        if query["sql"].startswith(("UPDATE", "SELECT", "DELETE"))
        and "clock_timestamp" not in query["sql"]  # reads only the database's time
    ]
    assert len(statements) == 5, "all statements of both functions are examined"
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")  # small tables would be scanned as a whole
        explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
        plans = []
        for sql in statements:
            cursor.execute(f"{explain} {sql}")
            plans.append(str(cursor.fetchall()))
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")
    for plan in plans:
        assert any(index in plan for index in INDEXES)
        # How PostgreSQL and SQLite describe a scan of a whole table.
        assert "Seq Scan" not in plan
        assert not re.search(r"SCAN \w+'", plan)


#: Parts of the names of indexes. Each statement of a sweep must use one of them.
INDEXES = ("work_queue", "work_leased", "retirement_unsettled")
