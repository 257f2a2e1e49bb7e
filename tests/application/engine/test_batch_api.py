"""The batch API, with a real embedded LMS in which ``usher.lms`` is installed."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from tests.application.accounts.test_creation import make_lms_account
from tests.application.engine.claiming import claim_rows
from usher.application.accounts import kinds as account_kinds
from usher.application.accounts.details import Details
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.accounts.services import ensure_account, is_worked_on, set_active
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll, unenroll
from usher.application.lms_client import client
from usher.application.reconcilers import lms_context
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import access_token_for
from usher.client.batch import capabilities
from usher.engine.claim import Scope
from usher.engine.registry import kind
from usher.engine.services import reconcile
from usher.engine.writeback import write_back

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"


def test_the_lms_reports_its_capabilities(system_with_batch_api):
    assert capabilities(client()) == {"accounts", "enrollments", "course-runs"}


def test_one_pass_creates_many_accounts_and_tokens(system_with_batch_api):
    users = [system_with_batch_api.learner("many") for _ in range(30)]
    for user in users:
        ensure_account(user)
    summary = reconcile(["account", "token"])
    assert (summary.changed, summary.failed) == (30, 0), summary.failures
    assert LmsAccount.objects.filter(created_in_lms_at__isnull=False).count() == 30
    assert LmsToken.objects.filter(expires_at__gt=timezone.now()).count() == 30
    any_user = users[7]
    name = any_user.lms_account.username
    assert client().me(access_token_for(any_user)) == name
    lms_account = system_with_batch_api.account(name)
    assert lms_account["links"] == [["mitxpro-oauth2", name]]
    assert lms_account["has_password"]


def test_a_username_that_the_lms_has_is_replaced(system_with_batch_api):
    user = system_with_batch_api.learner("taken")
    make_lms_account(system_with_batch_api, user.username, f"other-{user.email}", hours_old=1)
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    assert account.username != user.username
    assert system_with_batch_api.account(user.username)["links"] == []


def test_a_linked_account_older_than_the_reservation_is_not_taken_over(system_with_batch_api):
    user = system_with_batch_api.learner("restored")
    make_lms_account(
        system_with_batch_api, user.username, f"old-{user.email}", linked=True, hours_old=24
    )
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    assert account.username != user.username
    stranger = system_with_batch_api.account(user.username)
    assert stranger["email"] == f"old-{user.email}"
    assert stranger["name"] == user.username


def test_an_account_is_refused_if_the_lms_has_the_email_address(system_with_batch_api):
    user = system_with_batch_api.learner()
    make_lms_account(system_with_batch_api, f"x{user.username}", user.email, hours_old=1)
    account = ensure_account(user, reconcile_now=True)
    assert account.refused_at is not None
    assert account.error_code == "duplicate-email"


def test_one_malformed_item_does_not_affect_the_others(system_with_batch_api):
    valid_learners = [system_with_batch_api.learner() for _ in range(5)]
    invalid_learner = system_with_batch_api.learner(email="not an address")
    for user in (*valid_learners, invalid_learner):
        ensure_account(user)
    reconcile(["account", "token"])
    ready = LmsAccount.objects.filter(created_in_lms_at__isnull=False)
    assert set(ready.values_list("user_id", flat=True)) == {user.pk for user in valid_learners}
    assert LmsAccount.objects.get(user=invalid_learner).refused_at is not None


def test_the_longest_full_name_of_the_platform_is_accepted(system_with_batch_api):
    user = system_with_batch_api.learner(name="N" * 255)
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    user.name = "M" * 255
    user.save()
    assert reconcile(["profile"]).failed == 0
    assert system_with_batch_api.account(account.username)["name"] == user.name


def test_an_item_longer_than_the_payload_allows_is_refused_with_the_reason(
    system_with_batch_api, monkeypatch
):
    # Too long for every column: PostgreSQL would reject this address, SQLite would store it.
    too_long = Details(email="e" * 250 + "@example.org", name="Ada", country="")
    monkeypatch.setattr(account_kinds, "details", lambda user: too_long)
    account = ensure_account(system_with_batch_api.learner(), reconcile_now=True)
    assert account.refused_at is not None
    assert "254 characters" in account.error_message
    assert "email" in account.error_message


def test_each_enrollment_of_a_request_has_its_own_outcome(system_with_batch_api):
    runs = [ensure_run(DEMO), ensure_run("course-v1:No+Such+Run")]
    users = [system_with_batch_api.learner() for _ in range(6)]
    for user in users:
        for run in runs:
            enroll(user, run)
    summary = reconcile()
    assert Enrollment.objects.filter(observed_is_active=True).count() == 6
    assert Enrollment.objects.filter(work__refused_at__isnull=False).count() == 6
    assert {failure.kind for failure in summary.failures} <= {"enrollment", "run", "mode"}
    name = users[0].lms_account.username
    assert system_with_batch_api.enrollments(name) == {DEMO: ("audit", True)}
    unenroll(users[0], runs[0])
    reconcile(["enrollment"])
    assert system_with_batch_api.enrollments(name) == {DEMO: ("audit", False)}


def test_a_changed_name_and_email_address_are_sent_to_the_lms(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user, reconcile_now=True)
    user.name, user.email = "Another Name", f"new-{user.email}"
    user.save()
    assert LmsProfile.objects.get(user=user).due_at is not None
    summary = reconcile(["profile"])
    assert summary.failed == 0, summary.failures
    lms_account = system_with_batch_api.account(user.lms_account.username)
    assert (lms_account["name"], lms_account["email"]) == (user.name, user.email)


def test_deactivating_a_learner_deactivates_the_lms_account(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user, reconcile_now=True)
    user.is_active = False
    user.save()
    assert reconcile(["account"]).failed == 0
    name = user.lms_account.username
    assert system_with_batch_api.account(name)["is_active"] is False
    set_active(user, active=True)
    reconcile(["account"])
    assert system_with_batch_api.account(name)["is_active"] is True


def test_deleting_a_learner_deactivates_the_lms_account(system_with_batch_api):
    user = system_with_batch_api.learner()
    name = ensure_account(user, reconcile_now=True).username
    user.delete()
    summary = reconcile(["retirement"])
    assert (summary.changed, summary.failed) == (1, 0), summary.failures
    assert system_with_batch_api.account(name)["is_active"] is False


def test_an_account_that_the_lms_created_at_sign_in_is_taken_over(system_with_batch_api):
    """The learner signed in with a browser before the worker created the account, so the LMS
    created the account."""
    user = system_with_batch_api.learner()
    account = ensure_account(user)
    make_lms_account(system_with_batch_api, account.username, user.email, linked=True)
    # The username was reserved before the LMS created the account.
    LmsAccount.objects.filter(pk=account.pk).update(
        reserved_at=timezone.now() - timedelta(seconds=30)
    )
    reconcile(["account", "token"])
    account.refresh_from_db()
    assert account.is_ready, account.error_message
    assert account.username == user.username


def test_an_account_is_deactivated_if_its_learner_was_deleted_during_its_creation(
    system_with_batch_api,
):
    """The learner is deleted before the outcome is recorded. The LMS has created the account, so
    Usher must deactivate the account."""
    user, accounts = system_with_batch_api.learner("leaving"), kind("account")
    name = ensure_account(user).username
    rows = claim_rows("account", scope=Scope(user_id=user.pk))
    with transaction.atomic():
        assert is_worked_on(user)
    jobs = [job for job, _ in accounts.prepare(rows, lms_context())]
    outcomes = accounts.act_many(jobs, lms_context())
    user.delete()
    assert write_back(accounts, list(zip(jobs, outcomes, strict=True))) == []
    assert system_with_batch_api.account(name)["is_active"] is True
    reconcile(["retirement"])
    assert system_with_batch_api.account(name)["is_active"] is False


def test_an_enrollment_claimed_before_its_account_existed_is_sent_later(
    system_with_batch_api,
):
    """The account does not exist when the worker claims the enrollment. Another worker creates the
    account before the outcome is recorded."""
    user, enrollments = system_with_batch_api.learner("early"), kind("enrollment")
    ensure_account(user)
    enrollment = enroll(user, ensure_run(DEMO))
    rows = claim_rows("enrollment", scope=Scope(user_id=user.pk))
    prepared = enrollments.prepare(rows, lms_context())
    reconcile(["account"])
    # An outcome before any request says that the row waits for its account.
    write_back(enrollments, [(job, outcome) for job, outcome in prepared if outcome])
    assert not LmsAccount.objects.filter(user=user, created_in_lms_at=None).exists()
    reconcile(["enrollment"])
    enrollment.refresh_from_db()
    assert enrollment.is_settled, enrollment.error_message


def test_no_worker_processes_a_learner_without_claimed_records(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user, reconcile_now=True)
    with transaction.atomic():
        assert not is_worked_on(user)
