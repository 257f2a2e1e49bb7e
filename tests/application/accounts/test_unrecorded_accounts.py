"""A learner is deactivated or deleted after the answer to their registration was lost. The LMS
account must not stay active."""

from datetime import timedelta

import pytest

from usher.application.accounts.models import LmsAccount, Retirement
from usher.application.accounts.services import ensure_account
from usher.application.tokens.models import LmsToken
from usher.engine.services import reconcile


@pytest.fixture
def unrecorded_account(system_with_each_api):
    """A learner's account that exists in the LMS while the application records it as not
    created."""
    account = ensure_account(system_with_each_api.learner())
    assert reconcile(["account"]).failed == 0
    LmsAccount.objects.update(
        created_in_lms_at=None, lms_user_id=None, observed_is_active=None, observed_generation=0
    )
    account.refresh_from_db()
    return account


def is_deactivated(system_with_each_api, row, manual_code):
    """True if the account is deactivated in the LMS, or if the row is refused with the code
    ``manual_code``. By the public API the service worker may not deactivate an account, so that
    code asks a person to do it."""
    if row.error_code == manual_code:
        return row.refused_at is not None
    return system_with_each_api.account(row.username)["is_active"] is False


def test_the_unrecorded_account_of_a_deactivated_learner_is_deactivated(
    system_with_each_api, unrecorded_account
):
    unrecorded_account.user.is_active = False
    unrecorded_account.user.save()
    reconcile(["account"])
    unrecorded_account.refresh_from_db()
    assert is_deactivated(
        system_with_each_api, unrecorded_account, manual_code="deactivation-by-hand"
    )
    assert not unrecorded_account.is_ready, "Usher creates it when the learner is activated again"


def test_the_unrecorded_account_of_a_deleted_learner_is_deactivated(
    system_with_each_api, unrecorded_account
):
    unrecorded_account.user.delete()
    reconcile(["retirement"])
    assert is_deactivated(
        system_with_each_api, Retirement.objects.get(), manual_code="retirement-by-hand"
    )


@pytest.mark.parametrize("learner_change", ["deactivated", "deleted"])
def test_an_account_older_than_the_reservation_is_not_deactivated(
    system_with_each_api, unrecorded_account, learner_change
):
    """An account that is older than the reservation of its username belongs to somebody else."""
    LmsAccount.objects.update(reserved_at=unrecorded_account.reserved_at + timedelta(hours=1))
    if learner_change == "deleted":
        unrecorded_account.user.delete()
    else:
        unrecorded_account.user.is_active = False
        unrecorded_account.user.save()
    assert reconcile(["account", "retirement"]).failed == 0
    assert system_with_each_api.account(unrecorded_account.username)["is_active"] is True


def test_the_unrecorded_account_of_a_learner_who_is_activated_again_becomes_active(
    system_with_batch_api,
):
    account = ensure_account(system_with_batch_api.learner())
    reconcile(["account"])
    # As if the answer to the creation had been lost.
    LmsAccount.objects.update(created_in_lms_at=None, observed_generation=0)
    user = account.user
    for is_active in (False, True):
        user.is_active = is_active
        user.save()
        assert reconcile(["account", "token"]).failed == 0
    account.refresh_from_db()
    assert account.is_ready
    assert LmsToken.objects.get().access_token
    assert system_with_batch_api.account(account.username)["is_active"] is True


def test_a_retirement_searches_for_an_account_until_a_running_registration_has_ended(
    system_with_batch_api,
):
    account = ensure_account(system_with_batch_api.learner())
    end_of_lease = account.reserved_at + timedelta(seconds=50)
    LmsAccount.objects.set_work(lease_owner="a worker", lease_until=end_of_lease)
    account.user.delete()
    row = Retirement.objects.get()
    assert row.due_at == end_of_lease, "until then, the worker's registration may arrive"
    Retirement.objects.set_work(due_at=account.reserved_at)
    assert reconcile(["retirement"]).failed == 0
    row.refresh_from_db()
    assert row.due_at is not None, "the registration of a killed worker may still arrive"
    Retirement.objects.set_work(due_at=account.reserved_at)
    assert reconcile(["retirement"]).failed == 0
    row.refresh_from_db()
    assert row.due_at is None
