"""The batch API, with a real embedded LMS in which ``usher.lms`` is installed."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from tests.application.accounts.test_creation import make_in_lms
from usher.application.accounts import kinds as account_kinds
from usher.application.accounts.details import Details
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.accounts.services import deactivate, ensure_account, is_worked_on
from usher.application.enrollments.models import Enrollment
from usher.application.enrollments.services import enroll, unenroll
from usher.application.lms_client import client
from usher.application.reconcilers import lms_context
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import access_token_for
from usher.client.batch import capabilities
from usher.engine.claim import Scope, claim
from usher.engine.registry import kind
from usher.engine.services import reconcile
from usher.engine.writeback import write_back

pytestmark = pytest.mark.each_database

DEMO = "course-v1:edX+DemoX+Demo_Course"


def test_the_lms_reports_its_capabilities(system_with_batch_api):
    assert capabilities(client()) == {"accounts", "enrollments", "course-runs"}


def test_many_accounts_and_tokens_in_one_request(system_with_batch_api):
    users = [system_with_batch_api.learner("many") for _ in range(30)]
    for user in users:
        ensure_account(user)
    summary = reconcile(["account", "token"])
    assert (summary.changed, summary.failed) == (30, 0), summary.failures
    assert LmsAccount.objects.filter(created_in_lms_at__isnull=False).count() == 30
    assert LmsToken.objects.filter(expires_at__gt=timezone.now()).count() == 30
    name = users[7].lms_account.username
    assert client().me(access_token_for(users[7])) == name
    there = system_with_batch_api.account(name)
    assert there["links"] == [["mitxpro-oauth2", name]]
    assert there["usable"]


def test_a_taken_name_leads_to_another(system_with_batch_api):
    user = system_with_batch_api.learner("taken")
    make_in_lms(system_with_batch_api, user.username, f"other-{user.email}", joined_ago=3600)
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    assert account.username != user.username
    assert system_with_batch_api.account(user.username)["links"] == []


def test_a_linked_account_older_than_the_reservation_is_never_ours(system_with_batch_api):
    user = system_with_batch_api.learner("restored")
    make_in_lms(
        system_with_batch_api, user.username, f"old-{user.email}", linked=True, joined_ago=86400
    )
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    assert account.username != user.username
    stranger = system_with_batch_api.account(user.username)
    assert stranger["email"] == f"old-{user.email}"
    assert stranger["name"] == user.username


def test_an_email_that_the_lms_has_is_refused(system_with_batch_api):
    user = system_with_batch_api.learner()
    make_in_lms(system_with_batch_api, f"x{user.username}", user.email, joined_ago=3600)
    account = ensure_account(user, reconcile_now=True)
    assert account.refused_at is not None
    assert account.error_code == "duplicate-email"


def test_one_malformed_item_does_not_affect_the_others(system_with_batch_api):
    good = [system_with_batch_api.learner() for _ in range(5)]
    bad = system_with_batch_api.learner(email="not an address")
    for user in (*good, bad):
        ensure_account(user)
    reconcile(["account", "token"])
    ready = LmsAccount.objects.filter(created_in_lms_at__isnull=False)
    assert set(ready.values_list("user_id", flat=True)) == {u.pk for u in good}
    assert LmsAccount.objects.get(user=bad).refused_at is not None


def test_a_name_as_long_as_the_platform_takes(system_with_batch_api):
    user = system_with_batch_api.learner(name="N" * 255)
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    user.name = "M" * 255
    user.save()
    assert reconcile(["profile"]).failed == 0
    assert system_with_batch_api.account(account.username)["name"] == user.name


def test_a_request_that_is_refused_as_a_whole_reports_the_reason(
    system_with_batch_api, monkeypatch
):
    # Too long for every column: PostgreSQL would reject this address, SQLite would store it.
    too_long = Details(email="e" * 250 + "@example.org", name="Ada", country="")
    monkeypatch.setattr(account_kinds, "details", lambda user: too_long)
    account = ensure_account(system_with_batch_api.learner(), reconcile_now=True)
    assert account.refused_at is not None
    assert "254 characters" in account.error_message
    assert "email" in account.error_message


def test_enrollments_each_with_its_own_outcome(system_with_batch_api):
    runs = [ensure_run(DEMO), ensure_run("course-v1:No+Such+Run")]
    users = [system_with_batch_api.learner() for _ in range(6)]
    for user in users:
        for run in runs:
            enroll(user, run)
    summary = reconcile()
    assert Enrollment.objects.filter(observed_is_active=True).count() == 6
    assert Enrollment.objects.filter(work__refused_at__isnull=False).count() == 6
    assert {f.kind for f in summary.failures} <= {"enrollment", "run", "mode"}
    name = users[0].lms_account.username
    assert system_with_batch_api.enrollments(name) == {DEMO: ("audit", True)}
    unenroll(users[0], runs[0])
    reconcile(["enrollment"])
    assert system_with_batch_api.enrollments(name) == {DEMO: ("audit", False)}


def test_name_and_email_follow_the_learner(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user, reconcile_now=True)
    user.name, user.email = "Another Name", f"new-{user.email}"
    user.save()
    assert LmsProfile.objects.get(user=user).due_at is not None
    summary = reconcile(["profile"])
    assert summary.failed == 0, summary.failures
    there = system_with_batch_api.account(user.lms_account.username)
    assert (there["name"], there["email"]) == (user.name, user.email)


def test_a_learner_switched_off_here_is_switched_off_there(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user, reconcile_now=True)
    user.is_active = False
    user.save()
    assert reconcile(["account"]).failed == 0
    name = user.lms_account.username
    assert system_with_batch_api.account(name)["is_active"] is False
    deactivate(user, active=True)
    reconcile(["account"])
    assert system_with_batch_api.account(name)["is_active"] is True


def test_a_learner_deleted_here_is_switched_off_there(system_with_batch_api):
    user = system_with_batch_api.learner()
    name = ensure_account(user, reconcile_now=True).username
    user.delete()
    summary = reconcile(["retirement"])
    assert (summary.changed, summary.failed) == (1, 0), summary.failures
    assert system_with_batch_api.account(name)["is_active"] is False


def test_accounts_that_the_lms_created_at_sign_in_are_the_learners_own(system_with_batch_api):
    """The learner signed in with a browser before the worker created the account, so the LMS
    created the account."""
    user = system_with_batch_api.learner()
    account = ensure_account(user)
    make_in_lms(system_with_batch_api, account.username, user.email, linked=True)
    LmsAccount.objects.filter(pk=account.pk).update(
        reserved_at=timezone.now() - timedelta(seconds=30)
    )
    reconcile(["account", "token"])
    account.refresh_from_db()
    assert account.is_ready, account.error_message
    assert account.username == user.username


def test_a_learner_deleted_while_the_account_is_created(system_with_batch_api):
    """The learner is deleted before the outcome is recorded. The LMS has created the account, so
    Usher must deactivate the account."""
    user, accounts = system_with_batch_api.learner("leaving"), kind("account")
    name = ensure_account(user).username
    _, rows = claim(accounts, Scope(user_id=user.pk), 1, lease_seconds=60)
    with transaction.atomic():
        assert is_worked_on(user)
    jobs = [job for job, _ in accounts.prepare(rows, lms_context())]
    outcomes = accounts.act_many(jobs, lms_context())
    user.delete()
    assert write_back(accounts, list(zip(jobs, outcomes, strict=True))) == []
    assert system_with_batch_api.account(name)["is_active"] is True
    reconcile(["retirement"])
    assert system_with_batch_api.account(name)["is_active"] is False


def test_an_enrollment_claimed_before_its_account_was_created_is_not_forgotten(
    system_with_batch_api,
):
    """The account does not exist when the worker claims the enrollment. Another worker creates the
    account before the outcome is recorded."""
    user, enrollments = system_with_batch_api.learner("early"), kind("enrollment")
    ensure_account(user)
    enrollment = enroll(user, ensure_run(DEMO))
    _, rows = claim(enrollments, Scope(user_id=user.pk), 1, lease_seconds=60)
    prepared = enrollments.prepare(rows, lms_context())
    reconcile(["account"])
    write_back(enrollments, [(job, outcome) for job, outcome in prepared if outcome])
    assert not LmsAccount.objects.filter(user=user, created_in_lms_at=None).exists()
    reconcile(["enrollment"])
    enrollment.refresh_from_db()
    assert enrollment.is_settled, enrollment.error_message


def test_a_learner_whose_records_no_worker_has_claimed(system_with_batch_api):
    user = system_with_batch_api.learner()
    ensure_account(user, reconcile_now=True)
    with transaction.atomic():
        assert not is_worked_on(user)
