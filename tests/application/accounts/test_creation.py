"""A learner's LMS account and token are created in a real embedded LMS."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from tests.application.conftest import UNREACHABLE_URL, make_learner
from tests.support import faults
from usher.application.accounts.models import LmsAccount, UsernameReservation
from usher.application.accounts.naming import reserve
from usher.application.accounts.services import adopt, ensure_account, is_username_free
from usher.application.enrollments.services import enroll
from usher.application.lms_client import client
from usher.application.runs.services import ensure_run
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import access_token_for
from usher.engine.services import open_gates, reconcile

REGISTRATION = "/user_api/v1/account/registration/"


def make_lms_account(system, username, email, *, linked=False, hours_old=0):
    """Creates an account in the LMS. linked: whether to link the account to the application's
    learner with the same username. hours_old: age of the account."""
    link = f"S.objects.create(user=u, provider='mitxpro-oauth2', uid={username!r})"
    system.lms.shell(
        "from usher.embedded.home.seeds import create_person; from datetime import timedelta; "
        "from django.utils import timezone; from social_django.models import UserSocialAuth as S; "
        f"u = create_person({username!r}, {email!r}); "
        f"u.date_joined = timezone.now() - timedelta(hours={hours_old}); u.save(); "
        + (link if linked else "")
    )


@pytest.mark.each_database
def test_a_learner_gets_an_account_and_a_token(system):
    user = system.learner(name="Zoë Ωmega")
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    lms_account = system.account(account.username)
    assert lms_account["email"] == user.email
    assert lms_account["name"] == "Zoë Ωmega"
    assert lms_account["has_password"]
    assert lms_account["links"] == [["mitxpro-oauth2", account.username]]
    assert lms_account["id"] == account.lms_user_id
    token = LmsToken.objects.get(user=user)
    assert token.is_settled
    assert client().me(access_token_for(user)) == account.username


@pytest.mark.parametrize("name", ["J.R.R. Tolkien", "Dr.Smith", "می\u200cخواهم", "N" * 255])
def test_full_names_reach_the_lms_unchanged(system, name):
    account = ensure_account(system.learner(name=name), reconcile_now=True)
    assert account.is_ready, account.error_message
    assert system.account(account.username)["name"] == name


def test_creating_an_account_and_a_token_takes_three_requests(system, faulty):
    ensure_account(system.learner(), reconcile_now=True)
    paths = [path.partition("?")[0] for _, path in faulty.requests]
    assert paths == [REGISTRATION, "/oauth2/authorize", "/oauth2/access_token"]


def test_a_recheck_of_an_account_keeps_the_time_of_its_creation(system_with_each_api):
    user = system_with_each_api.learner()
    ensure_account(user, reconcile_now=True)
    created_at = timezone.now() - timedelta(days=9)
    LmsAccount.objects.filter(user=user).update(created_in_lms_at=created_at)
    LmsAccount.objects.filter(user=user).compare_again()
    summary = reconcile(["account"], user=user)
    assert (summary.changed, summary.unchanged) == (0, 1)
    assert LmsAccount.objects.get(user=user).created_in_lms_at == created_at


def test_tokens_are_stored_encrypted(system):
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    row = LmsToken.objects.get(user=user)
    token = access_token_for(user)
    assert token not in row.access_token
    assert row.refresh_token
    assert row.access_token != row.refresh_token


def test_a_username_that_somebody_else_has_in_the_lms_is_replaced(system):
    user = system.learner("taken")
    make_lms_account(system, user.username, f"other-{user.email}", hours_old=1)
    account = ensure_account(user)
    assert account.username == user.username
    reconcile(["account"], user=user)
    account.refresh_from_db()
    assert account.is_ready, account.error_message
    assert account.username != user.username
    assert system.account(account.username)["email"] == user.email
    assert system.account(user.username)["links"] == []


def test_an_account_that_a_stranger_registered_after_the_reservation_is_not_taken_over(system):
    """A stranger registered the name in the LMS after the application reserved it. The stranger's
    account has no link to a learner of the application."""
    user = system.learner("race")
    account = ensure_account(user)
    make_lms_account(system, account.username, f"other-{user.email}")
    reconcile(["account"], user=user)
    account.refresh_from_db()
    assert account.is_ready
    assert account.username != user.username
    assert system.account(user.username)["links"] == []


def test_a_linked_account_older_than_the_reservation_is_not_taken_over(system):
    """After the application restores a backup, the LMS can have accounts of learners who are not in
    the application's database."""
    user = system.learner("restored")
    make_lms_account(system, user.username, f"old-{user.email}", linked=True, hours_old=24)
    account = ensure_account(user, reconcile_now=True)
    account.refresh_from_db()
    assert account.is_ready
    assert account.username != user.username
    assert system.account(account.username)["email"] == user.email


def test_adopt_takes_over_an_existing_account(system):
    user = system.learner("adopted")
    make_lms_account(system, user.username, user.email, linked=True, hours_old=24)
    account = adopt(user, user.username)
    reconcile(["account", "token"], user=user)
    account.refresh_from_db()
    assert account.is_ready
    assert client().me(access_token_for(user)) == user.username


def test_an_account_is_refused_if_the_lms_has_the_email_address(system):
    user = system.learner()
    make_lms_account(system, f"x{user.username}", user.email, hours_old=1)
    account = ensure_account(user, reconcile_now=True)
    assert not account.is_ready
    assert account.refused_at is not None
    assert account.error_code == "duplicate-email"
    assert "email" in account.error_message
    assert system.account(f"x{user.username}")["links"] == []


def test_an_account_is_recognised_after_the_answer_to_its_registration_was_lost(system, faulty):
    user = system.learner("lost")
    account = ensure_account(user)
    faulty.break_next(faults.LOST_ANSWER, path=REGISTRATION)
    assert reconcile(["account"], user=user).failed == 1
    assert system.account(account.username) is not None
    LmsAccount.objects.filter(user=user).make_due()
    assert reconcile(["account"], user=user).failed == 0
    account.refresh_from_db()
    assert account.is_ready
    assert account.username == user.username
    assert client().me(access_token_for(user)) == user.username


def test_a_username_is_kept_while_the_lms_cannot_show_whose_account_it_is(system, faulty):
    """The answer to the registration is lost. Then the LMS has a wrong client secret, so a sign-in
    to the account fails just as if the account did not exist."""
    user = system.learner("unclear")
    account = ensure_account(user)
    faulty.break_next(faults.LOST_ANSWER, path=REGISTRATION)
    reconcile(["account"], user=user)
    # With a wrong secret, the LMS can't sign the learner in.
    read_provider = (
        "from usher.embedded.third_party_auth.models import OAuth2ProviderConfig as P; "
        "provider = P.objects.order_by('-change_date', '-pk').first(); "
    )
    secret = system.lms.shell(f"{read_provider}print(provider.secret)").strip()
    system.lms.shell(f"{read_provider}provider.secret = 'wrong'; provider.save()")
    LmsAccount.objects.filter(user=user).make_due()
    assert reconcile(["account"], user=user).failed == 1
    account.refresh_from_db()
    assert account.username == user.username
    assert account.refused_at is None
    assert account.error_code == "unclear"
    # With the right secret, the sign-in shows that the account is the learner's.
    system.lms.shell(f"{read_provider}provider.secret = {secret!r}; provider.save()")
    LmsAccount.objects.filter(user=user).make_due()
    reconcile(["account"], user=user)
    account.refresh_from_db()
    assert account.is_ready, account.error_message
    assert account.username == user.username


@pytest.mark.parametrize("fault", [fault for fault in faults.ALL if fault != faults.SLOW])
def test_no_fault_during_creation_loses_the_learner(system, faulty, fault):
    user = system.learner("fault")
    account = ensure_account(user)
    faulty.break_next(fault, times=2)
    reconcile(["account", "token"], user=user)
    faulty.mend()
    client().http.state.clear("group:registration")  # ends a pause after THROTTLED
    open_gates(["account", "token"])
    LmsAccount.objects.filter(user=user).unsettled().make_due()
    LmsToken.objects.filter(user=user).unsettled().make_due()
    reconcile(["account", "token"], user=user)
    account.refresh_from_db()
    assert account.is_ready, account.error_message
    assert account.username == user.username
    assert client().me(access_token_for(user)) == user.username


def test_an_account_is_retried_after_a_timeout(system, faulty, settings):
    settings.EDX_API_CLIENT_TIMEOUT = 0.3
    user = system.learner("slow")
    account = ensure_account(user)
    faulty.break_all(faults.SLOW)
    summary = reconcile(["account"], user=user)
    assert summary.failed == 1
    assert summary.failures[0].failure_class == "transient"
    account.refresh_from_db()
    assert account.attempts == 1
    assert account.refused_at is None
    assert account.due_at > timezone.now()


def test_an_unreachable_lms_has_the_error_code_no_connection(system, settings):
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    user = system.learner("down")
    ensure_account(user)
    summary = reconcile(["account"], user=user)
    assert summary.failed == 1
    assert summary.failures[0].code == "no-connection"


def test_a_disabled_provider_record_is_a_systemic_failure_and_refuses_no_account(system, faulty):
    user = system.learner("provider")
    account = ensure_account(user)
    # An LMS whose provider record is disabled fails at registrations and sign-ins, and answers the
    # check that it is the LMS.
    faulty.decide = lambda _, path: "" if "/accounts?" in path else faults.ERROR_500
    summary = reconcile(["account"], user=user)
    assert summary.failures[0].failure_class == "systemic"
    assert summary.failures[0].code == "provider-disabled"
    account.refresh_from_db()
    assert account.refused_at is None


def test_waiting_for_the_registration_limit_counts_as_no_attempt(system, faulty):
    user = system.learner("limited")
    account = ensure_account(user)
    faulty.retry_after = 120
    faulty.break_all(faults.THROTTLED, path=REGISTRATION)
    summary = reconcile(["account"], user=user)
    assert (summary.failed, summary.waiting[0].failure_class) == (0, "throttled")
    account.refresh_from_db()
    assert account.attempts == 0
    assert account.due_at > timezone.now() + timedelta(seconds=100)


@pytest.mark.each_database
def test_the_username_of_a_deleted_learner_is_never_given_to_another(system):
    first = system.learner("gone")
    name = ensure_account(first, reconcile_now=True).username
    lms_account = system.account(name)
    first.delete()
    assert not LmsAccount.objects.filter(username=name).exists()
    assert not is_username_free(name.upper())
    second = make_learner(username=name)
    account = ensure_account(second, reconcile_now=True)
    assert account.is_ready
    assert account.username.lower() != name.lower()
    assert account.lms_user_id != lms_account["id"]
    assert system.account(name)["email"] == lms_account["email"]


@pytest.mark.each_database
def test_two_learners_who_want_the_same_username_get_different_usernames(system):
    users = [make_learner(username="The.Same"), make_learner(username="the same")]
    names = {ensure_account(user, reconcile_now=True).username.lower() for user in users}
    assert len(names) == 2
    assert LmsAccount.objects.filter(created_in_lms_at__isnull=False).count() == 2


def test_an_account_that_the_lms_lost_is_created_again(system):
    user = system.learner("wiped")
    account = ensure_account(user, reconcile_now=True)
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.get(username={account.username!r}).delete()"
    )
    LmsAccount.objects.filter(user=user).make_due()
    reconcile(["account", "token"], user=user)
    account.refresh_from_db()
    assert account.is_ready
    assert system.account(account.username)["email"] == user.email
    assert client().me(access_token_for(user)) == account.username


def test_reserved_usernames_are_unique_regardless_of_case(db):
    user = make_learner()
    UsernameReservation.objects.create(username="Alice", user=user)
    with pytest.raises(IntegrityError), transaction.atomic():
        UsernameReservation.objects.create(username="alice", user=None)


def test_a_learner_whose_account_record_was_deleted_gets_the_same_account_again(
    system_with_each_api,
):
    user = system_with_each_api.learner()
    name = ensure_account(user, reconcile_now=True).username
    enroll(user, ensure_run("course-v1:edX+DemoX+Demo_Course"), reconcile_now=True)
    LmsAccount.objects.filter(user=user).delete()
    account = ensure_account(user, reconcile_now=True)
    assert (account.username, account.is_ready, account.error_code) == (name, True, "")
    assert system_with_each_api.enrollments(name) == {
        "course-v1:edX+DemoX+Demo_Course": ("audit", True)
    }


def test_reserve_gives_nobody_the_reserved_username_of_another_learner(system):
    """With ``reuse_own``, a username that is reserved for the same learner is accepted."""
    name = ensure_account(system.learner()).username
    name_of_another = reserve(system.learner(), name.upper(), reuse_own=True)
    assert name_of_another.lower() != name.lower()
