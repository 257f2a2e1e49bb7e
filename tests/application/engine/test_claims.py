"""Claims, leases and fencing, with several workers on one database."""

import re
import threading
from datetime import timedelta

import pytest
from django.db import close_old_connections, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.application.conftest import make_learner
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
from usher.engine.claim import Scope, claim, release, renew, reset_implausible_times, restore_lost
from usher.engine.kinds import Job, Outcome
from usher.engine.registry import kind
from usher.engine.writeback import write_back

LEASE = 60.0


@pytest.fixture
def rows(transactional_db):
    retirements = [Retirement.objects.create(username=f"gone{i}") for i in range(40)]
    return [row.pk for row in retirements]


def test_concurrent_workers_claim_each_row_once(rows):
    claimed_ids, errors = [], []

    def work():
        try:
            while True:
                _, claimed = claim(kind("retirement"), Scope(), 3, LEASE)
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
    assert sorted(claimed_ids) == sorted(rows)


def test_a_worker_whose_lease_ended_cannot_write_back_after_another_claim(rows):
    _, first = claim(kind("retirement"), Scope(), 1, lease_seconds=-1.0)
    _, second = claim(kind("retirement"), Scope(first_id=first[0].pk, end_id=first[0].pk + 1), 1, 9)
    assert second[0].pk == first[0].pk
    late_outcome = [(Job(first[0], "slow"), Outcome(changed=True))]
    assert write_back(kind("retirement"), late_outcome) == []
    row = Retirement.objects.get(pk=first[0].pk)
    assert row.lease_owner == second[0].lease_owner
    assert row.observed_generation == 0
    write_back(kind("retirement"), [(Job(second[0], "quick"), Outcome(changed=True))])
    row.refresh_from_db()
    assert row.is_settled
    assert row.lease_owner == ""
    # The slow worker's request may have reached the LMS last, so the row is checked again.
    assert row.due_at is not None


def test_rows_can_be_claimed_again_after_release_but_not_after_renewal(rows):
    _, claimed = claim(kind("retirement"), Scope(), 40, lease_seconds=-1.0)
    renew(kind("retirement"), claimed, LEASE)
    assert claim(kind("retirement"), Scope(), 40, LEASE)[1] == []
    release(kind("retirement"), claimed[:5])
    assert len(claim(kind("retirement"), Scope(), 40, LEASE)[1]) == 5


def test_a_scope_claims_only_rows_in_its_range_of_ids(rows):
    scope = Scope(first_id=rows[10], end_id=rows[15])
    _, claimed = claim(kind("retirement"), scope, 100, LEASE)
    assert sorted(row.pk for row in claimed) == rows[10:15]


def test_a_row_changed_while_it_is_processed_stays_due(transactional_db):
    user, run = make_learner(), ensure_run("course-v1:a+b+c")
    enroll(user, run)
    _, claimed = claim(kind("enrollment"), Scope(), 1, LEASE)
    unenroll(user, run)
    outcome = Outcome({"observed_mode": "audit", "observed_is_active": True}, changed=True)
    write_back(kind("enrollment"), [(Job(claimed[0], "x"), outcome)])
    row = Enrollment.objects.get()
    assert row.is_active is False
    assert (row.observed_generation, row.generation) == (1, 2)
    assert row.due_at is not None


def test_a_row_made_due_while_it_is_processed_stays_due(rows):
    _, claimed = claim(kind("retirement"), Scope(), 1, LEASE)
    Retirement.objects.filter(pk=claimed[0].pk).make_due()
    write_back(kind("retirement"), [(Job(claimed[0], "x"), Outcome())])
    assert Retirement.objects.get(pk=claimed[0].pk).due_at is not None


def test_a_row_stays_due_if_a_message_of_the_lms_arrives_while_it_is_processed(rows):
    """The worker may have read the LMS before the change that the message reports."""
    pk = rows[0]
    _, claimed = claim(kind("retirement"), Scope(first_id=pk, end_id=pk + 1), 1, LEASE)
    assert Retirement.objects.filter(pk=pk).recheck() == 1
    write_back(kind("retirement"), [(Job(claimed[0], "x"), Outcome())])
    assert Retirement.objects.filter(pk=pk).due().exists()


def claim_and_fail(error):
    _, claimed = claim(kind("retirement"), Scope(), 1, LEASE)
    write_back(kind("retirement"), [(Job(claimed[0], "x"), Outcome(error=error))])
    return Retirement.objects.get(pk=claimed[0].pk)


def test_the_class_of_a_failure_decides_whether_and_when_a_row_is_retried(rows):
    now = timezone.now()
    row = claim_and_fail(Unreachable("gone", code="no-connection"))
    assert (row.attempts, row.error_class, row.error_code) == (1, "transient", "no-connection")
    assert now < row.due_at < now + timedelta(seconds=10)
    row = claim_and_fail(Throttled("wait", retry_after=100.0))
    assert row.attempts == 0
    assert row.due_at > now + timedelta(seconds=99)
    row = claim_and_fail(CircuitOpen("open", retry_after=5.0))
    assert row.attempts == 0
    row = claim_and_fail(AccessRefused("no"))
    assert row.error_class == "systemic"
    assert row.refused_at is None
    row = claim_and_fail(Refused("never", code="because"))
    assert row.refused_at is not None
    assert row.due_at is None
    assert Retirement.objects.filter(pk=row.pk).make_due() == 1
    row.refresh_from_db()
    assert row.refused_at is None
    assert row.attempts == 0


def test_the_delay_after_many_attempts_is_about_an_hour(rows):
    _, claimed = claim(kind("retirement"), Scope(), 1, LEASE)
    row = claimed[0]
    row.work.attempts = 40
    now = timezone.now()
    write_back(kind("retirement"), [(Job(row, "x"), Outcome(error=Unreachable("gone")))])
    row.refresh_from_db()
    assert now + timedelta(minutes=29) < row.due_at < now + timedelta(minutes=91)


def test_timestamps_that_a_clock_jump_moved_into_the_future_are_reset(rows):
    implausible_time = timezone.now() + timedelta(days=30)
    Retirement.objects.filter(pk=rows[0]).set_work(attempts=3, due_at=implausible_time)
    Retirement.objects.filter(pk=rows[1]).set_work(lease_owner="dead", lease_until=implausible_time)
    assert reset_implausible_times(kind("retirement"), LEASE) == 2
    assert len(claim(kind("retirement"), Scope(), 100, LEASE)[1]) == len(rows)


def test_unsettled_rows_with_a_time_in_the_future_are_due_after_a_reset(rows):
    in_two_hours = timezone.now() + timedelta(hours=2)
    Retirement.objects.filter(pk__in=rows[:3]).set_work(due_at=in_two_hours)
    settled_row = Retirement.objects.filter(pk=rows[3])
    settled_row.update(observed_generation=1)
    settled_row.set_work(due_at=in_two_hours)
    assert reset_implausible_times(kind("retirement"), 60) == 3
    assert Retirement.objects.due().filter(pk__in=rows[:3]).count() == 3
    assert not Retirement.objects.due().filter(pk=rows[3]).exists()


def test_a_sweep_uses_indexes_and_scans_no_whole_table(rows):
    with CaptureQueriesContext(connection) as queries:
        reset_implausible_times(kind("retirement"), LEASE)
        restore_lost(kind("retirement"))
    statements = [
        query["sql"]
        for query in queries
        if query["sql"].startswith(("UPDATE", "SELECT", "DELETE"))
        and "clock_timestamp" not in query["sql"]
    ]
    assert len(statements) == 5
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
        assert "Seq Scan" not in plan
        assert not re.search(r"SCAN \w+'", plan)


INDEXES = ("work_queue", "work_leased", "retirement_unsettled")
