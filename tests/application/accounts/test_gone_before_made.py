"""A learner is deactivated or deleted after the answer to their registration was lost. The LMS
account must not stay active."""

from datetime import timedelta

import pytest

from usher.application.accounts.models import LmsAccount, Retirement
from usher.application.accounts.services import ensure_account
from usher.application.tokens.models import LmsToken
from usher.engine.services import reconcile


@pytest.fixture
def unseen(system_with_each_api):
    """A learner's account that exists in the LMS while the application records it as not
    created."""
    account = ensure_account(system_with_each_api.learner())
    assert reconcile(["account"]).failed == 0
    LmsAccount.objects.update(
        created_in_lms_at=None, lms_user_id=None, observed_is_active=None, observed_generation=0
    )
    account.refresh_from_db()
    return account


def is_out_of_use(system_with_each_api, row, by_hand):
    """True if the account is deactivated in the LMS, or if the row is refused with the code
    ``by_hand``: with the public API, a person must deactivate the account."""
    if row.error_code == by_hand:
        return row.refused_at is not None
    return system_with_each_api.account(row.username)["is_active"] is False


def test_a_deactivated_learner_has_no_active_account(system_with_each_api, unseen):
    unseen.user.is_active = False
    unseen.user.save()
    reconcile(["account"])
    unseen.refresh_from_db()
    assert is_out_of_use(system_with_each_api, unseen, "deactivation-by-hand")
    assert not unseen.is_ready, "it is made as new when the learner is activated"


def test_a_deleted_learner_has_no_active_account(system_with_each_api, unseen):
    unseen.user.delete()
    reconcile(["retirement"])
    assert is_out_of_use(system_with_each_api, Retirement.objects.get(), "retirement-by-hand")


@pytest.mark.parametrize("gone", ["deactivated", "deleted"])
def test_an_older_account_of_that_name_is_left_alone(system_with_each_api, unseen, gone):
    """An account that is older than the reservation belongs to somebody else."""
    later = unseen.reserved_at + timedelta(hours=1)
    LmsAccount.objects.update(reserved_at=later)
    if gone == "deleted":
        unseen.user.delete()
    else:
        unseen.user.is_active = False
        unseen.user.save()
    assert reconcile(["account", "retirement"]).failed == 0
    assert system_with_each_api.account(unseen.username)["is_active"] is True


def test_a_learner_who_is_activated_again_has_an_account(system_with_batch_api):
    account = ensure_account(system_with_batch_api.learner())
    reconcile(["account"])
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


def test_an_account_that_was_requested_before_its_learner_was_deleted_is_searched_for_later(
    system_with_batch_api,
):
    account = ensure_account(system_with_batch_api.learner())
    until = account.reserved_at + timedelta(seconds=50)
    LmsAccount.objects.set_work(lease_owner="a worker", lease_until=until)
    account.user.delete()
    row = Retirement.objects.get()
    assert row.due_at == until, "what the worker sent may arrive until then"
    Retirement.objects.set_work(due_at=account.reserved_at)
    assert reconcile(["retirement"]).failed == 0
    row.refresh_from_db()
    assert row.due_at is not None, "a registration of a killed worker may come still"
    Retirement.objects.set_work(due_at=account.reserved_at)
    assert reconcile(["retirement"]).failed == 0
    row.refresh_from_db()
    assert row.due_at is None
