"""A learner whose e-mail address is not confirmed is never sent to the LMS."""

import httpx
import pytest
from allauth.account.models import EmailAddress
from allauth.account.signals import email_confirmed
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.application.conftest import make_learner
from usher.application.accounts import repair, waiting
from usher.application.accounts.eligibility import UNCONFIRMED
from usher.application.accounts.models import LmsAccount, LmsProfile
from usher.application.accounts.services import ensure_account, ensure_accounts, follow_profile
from usher.application.adapter import DefaultAdapter
from usher.application.enrollments.services import enroll
from usher.application.explain import explain
from usher.application.lms.drift import drift
from usher.application.runs.services import ensure_run
from usher.application.tokens.provider import create_registration_tokens
from usher.engine.services import reconcile

DEMO = "course-v1:edX+DemoX+Demo_Course"


def make_unconfirmed_learner(**fields):
    user = make_learner(**fields)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
    return user


def confirm(user):
    """Confirms the user's e-mail address, as allauth does."""
    address = EmailAddress.objects.get(user=user)
    address.verified = True
    address.save()
    email_confirmed.send(sender=EmailAddress, request=None, email_address=address)


def test_an_unconfirmed_learner_gets_no_account(system_with_each_api):
    user = make_unconfirmed_learner()
    account = ensure_account(user, reconcile_now=True)
    enroll(user, ensure_run(DEMO))
    reconcile()

    account.refresh_from_db()
    assert not account.is_ready
    assert account.error_code == "unconfirmed"
    assert account.refused_at is None
    assert system_with_each_api.account(account.username) is None

    confirm(user)
    reconcile()
    reconcile()  # also sends the enrollment, which waited for the account

    account.refresh_from_db()
    assert account.is_ready, account.error_message
    assert system_with_each_api.account(account.username)["email"] == user.email


@pytest.mark.django_db
def test_a_repair_of_all_learners_leaves_out_unconfirmed_learners():
    user, other = make_unconfirmed_learner(), make_learner()
    assert repair.count_missing() == 1
    assert repair.count_missing(user) == 0
    assert ensure_accounts() == 1
    assert set(LmsAccount.objects.values_list("user_id", flat=True)) == {other.pk}


@pytest.mark.each_database
def test_a_changed_email_address_is_sent_after_its_confirmation(system_with_batch_api):
    user = make_learner()
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    former_address = user.email
    user.email = f"new-{former_address}"
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=False)
    follow_profile(user)
    reconcile()
    assert system_with_batch_api.account(account.username)["email"] == former_address
    assert LmsProfile.objects.get(user=user).error_code == "unconfirmed"

    confirm(user)
    reconcile()

    assert system_with_batch_api.account(account.username)["email"] == user.email


def test_an_unconfirmed_learner_cannot_sign_in_to_the_lms(system):
    user = make_unconfirmed_learner()
    account = ensure_account(user)
    browser = Client()
    browser.force_login(user)
    with httpx.Client(base_url=system.lms.url, trust_env=False) as lms:
        start = lms.get("/auth/login/mitxpro-oauth2/")
    _, _, query = start.headers["Location"].partition("?")
    answer = browser.get(f"/oauth2/authorize/?{query}")
    assert answer.status_code == 403
    assert "Confirm your e-mail address" in answer.content.decode()
    assert system.account(account.username) is None

    confirm(user)
    answer = browser.get(f"/oauth2/authorize/?{query}")
    assert answer.status_code == 302


def test_a_token_of_an_unconfirmed_learner_gives_no_profile(system):
    user = make_unconfirmed_learner()
    ensure_account(user)
    token = create_registration_tokens([user.pk])[user.pk]
    bearer = {"Authorization": f"Bearer {token}"}
    for path in ("/api/users/me", "/oauth2/userinfo/"):
        answer = Client().get(path, headers=bearer)
        assert answer.status_code == 403
        assert user.email not in answer.content.decode()


def test_each_learner_without_account_has_the_reason_that_applies(system, settings, capsys):
    settings.USHER_ADAPTER = f"{__name__}.OnlyStaff"
    inactive, unconfirmed = make_learner(), make_unconfirmed_learner()
    learners = {
        "inactive": (inactive, "deactivated in this application"),
        "unconfirmed": (unconfirmed, "not confirmed"),
        "not-eligible": (make_learner(), "USHER_ADAPTER does not allow"),
    }
    for learner, _ in learners.values():
        ensure_account(learner)
    # ``update`` sends no signal, so only the worker finds out.
    type(inactive).objects.filter(pk=inactive.pk).update(is_active=False)
    reconcile(["account"])
    differences = {difference.what for difference in drift(["account"])}
    for code, (learner, reason) in learners.items():
        learner.refresh_from_db()
        row = LmsAccount.objects.get(user=learner)
        assert row.error_code == code
        assert reason in row.error_message
        assert row.username not in differences, "the learner should have no account"
        first_sentence = explain(learner)[0]
        assert reason in first_sentence.cause
        token = create_registration_tokens([learner.pk])[learner.pk]
        answer = Client().get("/api/users/me", headers={"Authorization": f"Bearer {token}"})
        if code == "inactive":
            assert answer.status_code == 401  # the token of an inactive user is no longer valid
        else:
            assert reason in answer.json()["error_description"]


class OnlyStaff(DefaultAdapter):
    """Only staff get an LMS account: a decision about one user, and a filter for many."""

    def is_eligible(self, user):
        return user.is_staff

    def eligible(self, users):
        return users.filter(is_staff=True)


@pytest.mark.django_db
def test_the_reasons_of_many_learners_cost_as_many_queries_as_those_of_one(
    django_assert_num_queries,
):
    accounts = [ensure_account(make_unconfirmed_learner()) for _ in range(6)]
    with CaptureQueriesContext(connection) as for_one:
        waiting.errors_by_user([accounts[0].user_id])
    with django_assert_num_queries(len(for_one)):
        reasons = waiting.errors_by_user([account.user_id for account in accounts])
    assert {reason.code for reason in reasons.values()} == {UNCONFIRMED}


def test_the_adapter_decides_which_learners_get_an_account(system, settings):
    settings.USHER_ADAPTER = f"{__name__}.OnlyStaff"
    learner, staff = make_learner(), make_learner(is_staff=True)
    ensure_account(learner)
    ensure_account(staff)
    reconcile()
    created = LmsAccount.objects.filter(created_in_lms_at__isnull=False)
    assert [account.user_id for account in created] == [staff.pk]
