"""Rows that a person waits for are processed before all others."""

import threading
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tests.application.conftest import LONGEST_WAIT, make_learner
from tests.application.engine.claiming import claim_rows
from usher.application.accounts.creation import NewAccount
from usher.application.accounts.details import details
from usher.application.accounts.models import LmsAccount, Retirement
from usher.application.accounts.services import ensure_account, ensure_accounts, follow_profile
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import change_mode, enroll
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.application.tokens.store import forget_tokens
from usher.client.errors import Unreachable
from usher.engine import notify, services, tasks
from usher.engine.claim import Scope
from usher.engine.due_query import DueQuery
from usher.engine.kinds import Job, Outcome
from usher.engine.lanes import Lane, background
from usher.engine.policy import EARLY_ATTEMPTS
from usher.engine.pool import Pool
from usher.engine.registry import kind
from usher.engine.writeback import write_back

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"
ENROLLMENT = "/api/enrollment/v1/enrollment"


def lane_of(row):
    """The lane of the row in the database."""
    row.refresh_from_db()
    return Lane(row.lane)


@pytest.fixture
def learner(transactional_db):
    return make_learner()


@pytest.fixture
def run(transactional_db):
    return ensure_run(DEMO)


def test_interactive_rows_are_claimed_first(transactional_db):
    background_rows, recheck_rows = [], []
    for number in range(3):
        for lane, rows in ((Lane.BACKGROUND, background_rows), (Lane.RECHECK, recheck_rows)):
            rows.append(Retirement.objects.create(username=f"gone-{lane}-{number}", lane=lane))
    interactive_row = Retirement.objects.create(username="person", lane=Lane.INTERACTIVE)
    assert claim_rows("retirement", limit=2) == [interactive_row, background_rows[0]]
    assert claim_rows("retirement", limit=9, lane=Lane.RECHECK) == recheck_rows
    assert claim_rows("retirement", limit=9) == background_rows[1:]


def test_one_statement_finds_kinds_and_lanes_with_due_rows(
    transactional_db, django_assert_num_queries, learner
):
    kinds = [kind("account"), kind("token"), kind("retirement")]
    query = DueQuery(kinds, Scope())
    with django_assert_num_queries(1):
        assert query.due() == set()
    ensure_account(learner)
    Retirement.objects.create(username="gone", lane=Lane.RECHECK)
    account, token, retirement = kinds
    with django_assert_num_queries(1):
        assert query.due() == {(account, Lane.INTERACTIVE), (retirement, Lane.RECHECK)}
    query_of_learner = DueQuery(kinds, Scope(user_id=learner.pk), interactive=[token])
    # None: any lane, because a learner has only a few rows.
    assert query_of_learner.due() == {(account, None)}
    claim_rows("account")
    assert query_of_learner.due() == set()


def test_records_of_an_enrollment_are_interactive_unless_an_import_enrolls(learner, run):
    row = enroll(learner, run)
    assert lane_of(row) is Lane.INTERACTIVE
    assert lane_of(learner.lms_account) is Lane.INTERACTIVE
    with background():
        other = enroll(make_learner(), run)
    assert lane_of(other) is Lane.BACKGROUND
    assert lane_of(other.user.lms_account) is Lane.BACKGROUND
    enroll(other.user, run, "audit", force=True)
    assert lane_of(other) is Lane.INTERACTIVE


def test_creating_accounts_for_all_users_is_background_work(transactional_db):
    make_learner(username="Taken_1")
    # For this learner, the first choice of an LMS username is reserved by the learner above, so
    # the record is created separately.
    make_learner(username="taken@1")
    ensure_accounts()
    assert set(LmsAccount.objects.values_list("work__lane", flat=True)) == {Lane.BACKGROUND}


def test_follow_profile_accepts_a_learner_whose_account_is_not_created_yet(transactional_db):
    learner = make_learner()
    ensure_accounts()
    follow_profile(learner)  # raises no exception


def test_a_due_row_keeps_its_lane_when_another_cause_makes_it_due(learner, run):
    row = enroll(learner, run)
    rows = Enrollment.objects.filter(pk=row.pk)
    rows.make_due()
    rows.compare_again()
    services.recheck(["enrollment"])
    assert lane_of(row) is Lane.INTERACTIVE
    with background():
        change_mode(learner, run, "verified")
    assert lane_of(row) is Lane.INTERACTIVE


def test_a_settled_row_gets_the_lane_of_the_cause_that_makes_it_due(learner, run):
    row = enroll(learner, run)
    (claimed,) = claim_rows("enrollment")
    outcome = Outcome({"observed_mode": "audit", "observed_is_active": True})
    write_back(kind("enrollment"), [(Job(claimed, display_name="x"), outcome)])
    assert lane_of(row) is Lane.BACKGROUND
    services.recheck(["enrollment"])
    assert lane_of(row) is Lane.RECHECK
    Enrollment.objects.filter(pk=row.pk).compare_again()
    assert lane_of(row) is Lane.RECHECK, "the row was due already"
    Enrollment.objects.filter(pk=row.pk).make_due()
    assert lane_of(row) is Lane.BACKGROUND


def test_an_interactive_row_becomes_background_work_after_the_early_attempts(learner, run):
    row = enroll(learner, run)
    rows = Enrollment.objects.filter(pk=row.pk)

    def fail():
        """Lets one attempt fail. Returns the lane of the row after it."""
        rows.set_work(due_at=timezone.now())
        (claimed,) = claim_rows("enrollment")
        error = Unreachable("gone", code="no-connection")
        write_back(kind("enrollment"), [(Job(claimed, display_name="x"), Outcome(error=error))])
        return lane_of(row)

    assert fail() is Lane.INTERACTIVE
    rows.set_work(attempts=EARLY_ATTEMPTS - 1)
    assert fail() is Lane.BACKGROUND


def test_the_token_and_the_enrollments_of_a_new_account_get_its_lane(learner, run):
    with background():
        row = enroll(learner, run)
    LmsAccount.objects.filter(user=learner).set_work(lane=Lane.INTERACTIVE)
    (account,) = claim_rows("account")
    account_data = SimpleNamespace(registration_token="", details=details(learner))
    values = {"created_in_lms_at": timezone.now(), "lms_user_id": 1}
    outcome = Outcome(values, extra=NewAccount(tokens=None), changed=True)
    write_back(kind("account"), [(Job(account, display_name="x", data=account_data), outcome)])
    assert lane_of(LmsToken.objects.get(user=learner)) is Lane.INTERACTIVE
    assert lane_of(row) is Lane.INTERACTIVE


def test_a_forgotten_token_is_obtained_again_in_the_background(learner):
    LmsToken.objects.create(user=learner, lane=Lane.INTERACTIVE)
    with transaction.atomic():
        forget_tokens([learner.pk])
    assert lane_of(LmsToken.objects.get(user=learner)) is Lane.BACKGROUND


def test_a_busy_worker_creates_an_account_while_the_lms_answers_no_enrollment(
    system, faulty, eventually
):
    """There is only one worker. All its threads but one are busy with a backlog of enrollments."""
    enrollment_arrived, may_answer = threading.Event(), threading.Event()

    def decide(method, path):
        """The proxy's fault for each request: always '', which passes the request on to the LMS. A
        change of an enrollment waits here first."""
        if method == "POST" and ENROLLMENT in path:
            enrollment_arrived.set()
            assert may_answer.wait(300)  # longer than the test waits
        return ""

    faulty.decide = decide
    run = ensure_run(DEMO)
    with background():
        for _ in range(12):  # more than the worker has threads
            user = system.learner("backlog")
            ensure_account(user, reconcile_now=True)
            enroll(user, run)
    stop, errors = threading.Event(), []

    def work():
        try:
            services.reconcile(["enrollment"], stop=stop, interactive_too=True)
        except Exception as error:  # noqa: BLE001 - the test asserts on it
            errors.append(error)
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert enrollment_arrived.wait(LONGEST_WAIT)
        person = system.learner("person")
        ensure_account(person)
        tokens = LmsToken.objects.filter(user=person, expires_at__isnull=False)
        eventually(lambda: tokens.exists())
        assert worker.is_alive()
    finally:
        stop.set()
        may_answer.set()
        worker.join(300)
    assert errors == []
    assert system.account(person.username)


def test_celery_workers_process_interactive_rows_during_a_share(transactional_db, monkeypatch):
    calls = []
    monkeypatch.setattr(tasks, "reconcile", lambda kinds, **options: calls.append((kinds, options)))
    tasks.work_share("enrollment", number=0)
    ((kinds, options),) = calls
    assert kinds == ["enrollment"]
    assert options["interactive_too"] is True


def test_an_import_sends_one_message_and_an_enrollment_of_a_learner_sends_its_own(
    transactional_db, settings, monkeypatch, learner, run
):
    settings.CELERY_BROKER_URL = "redis://127.0.0.1:9/0"  # apply_async is replaced below
    monkeypatch.setattr(notify, "_last_sent", 0.0)  # forgets the messages of earlier tests
    sent = []
    monkeypatch.setattr(
        tasks.work, "apply_async", lambda args, **options: sent.append((args, options))
    )
    settings.USHER_INTERACTIVE_QUEUE = "people"
    with background():
        for _ in range(5):
            enroll(make_learner(), run)
    assert [args for args, _ in sent] == [(None,)], "one message about all learners"
    # Not in an import: a person waits for this enrollment.
    enroll(learner, run)
    assert {(args, options.get("queue")) for args, options in sent[1:]} == {
        ((learner.pk,), "people")
    }


# Threads


def test_a_thread_is_kept_free_for_urgent_calls():
    pool, order, may_end = Pool(size=8, name="test"), [], threading.Event()
    begun = threading.Semaphore(0)

    def background_call(number):
        order.append(number)
        begun.release()
        assert may_end.wait(LONGEST_WAIT)

    for number in range(20):
        pool.submit(background_call, number)
    for _ in range(7):  # all threads but one
        assert begun.acquire(timeout=LONGEST_WAIT)
    event = threading.Event()
    pool.submit(event.set, urgent=True)
    assert event.wait(LONGEST_WAIT), "one of the eight threads runs urgent calls only"
    assert len(order) == 7
    may_end.set()
    for _ in range(13):  # the other background calls
        assert begun.acquire(timeout=LONGEST_WAIT)
    pool.close()


def test_a_single_thread_runs_urgent_calls_first():
    pool, order = Pool(size=1, name="test"), []
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def occupy_thread():
        begun.set()
        assert may_end.wait(LONGEST_WAIT)

    pool.submit(occupy_thread)
    assert begun.wait(LONGEST_WAIT)
    pool.submit(order.append, "background")
    pool.submit(ended.set)
    pool.submit(order.append, "urgent", urgent=True)
    may_end.set()
    assert ended.wait(LONGEST_WAIT)
    assert order == ["urgent", "background"]
    pool.close()


def test_a_closed_pool_runs_no_call():
    pool, calls = Pool(size=2, name="test"), []
    pool.close()
    pool.submit(calls.append, 1)
    assert calls == []
