"""An account that the LMS's staff deactivated stays deactivated, and has a state of its own."""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from usher.application.accounts import repair
from usher.application.accounts.models import LmsAccount
from usher.application.accounts.services import ensure_account, reactivate
from usher.application.explain import explain
from usher.application.health import learners
from usher.application.lms.drift import drift
from usher.application.states import State, in_state, state
from usher.application.tokens.models import LmsToken
from usher.engine.services import recheck, reconcile


def deactivate_in_lms(system, username):
    """Deactivates the account as the LMS's staff would."""
    system.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.filter(username={username!r}).update(is_active=False)"
    )


@pytest.fixture
def deactivated_account(system_with_each_api):
    """A learner's account that the LMS's staff deactivated."""
    account = ensure_account(system_with_each_api.learner(), reconcile_now=True)
    deactivate_in_lms(system_with_each_api, account.username)
    return account


def recheck_and_reconcile(kinds=("account", "token", "profile")):
    """Compares all records of these kinds with the LMS. Checks that nothing fails except records
    that report the deactivation."""
    summary = reconcile(kinds, made_due=recheck(kinds))
    assert {failure.code for failure in summary.failures} <= {"deactivated-in-lms"}, (
        summary.failures
    )


def test_a_recheck_leaves_the_account_deactivated_and_every_report_says_so(
    system_with_each_api, deactivated_account
):
    recheck_and_reconcile()
    assert system_with_each_api.account(deactivated_account.username)["is_active"] is False
    # The state of the record, the filters of the lists, and doctor's facts.
    deactivated_account.refresh_from_db()
    assert state(deactivated_account) is State.DEACTIVATED
    assert deactivated_account in in_state(LmsAccount.objects.all(), State.DEACTIVATED)
    assert deactivated_account not in in_state(LmsAccount.objects.all(), State.IN_SYNC)
    assert learners.facts()["deactivated_in_lms"] == [deactivated_account.username]
    # The command ``why``: the account and its history.
    account = next(
        sentence for sentence in explain(deactivated_account.user) if sentence.topic == "account"
    )
    assert account.state == "Deactivated in the LMS"
    assert "until somebody activates" in account.next
    history = [
        sentence.text
        for sentence in explain(deactivated_account.user)
        if sentence.topic == "history"
    ]
    assert history[0].endswith("LMS account deactivated in the LMS, not from here.")


def test_a_learner_whose_account_is_deactivated_in_the_lms_is_not_counted_as_missing(
    system_with_each_api, deactivated_account
):
    recheck_and_reconcile()
    # Usually, a learner without a token counts as missing.
    LmsToken.objects.update(access_token="", refresh_token="", expires_at=None)
    without_account = system_with_each_api.learner()
    assert repair.count_missing() == 1
    assert repair.count_missing(deactivated_account.user) == 0
    assert repair.count_missing(without_account) == 1


def test_a_changed_name_does_not_activate_the_account(system_with_each_api, deactivated_account):
    user = deactivated_account.user
    user.name = "Another Name"
    user.save()
    reconcile(["profile"])
    assert system_with_each_api.account(deactivated_account.username)["is_active"] is False


def test_drift_and_a_dry_run_name_the_deactivated_account_and_change_nothing(
    system_with_each_api, deactivated_account
):
    difference = next(
        difference
        for difference in drift(["account"])
        if difference.what == deactivated_account.username
    )
    assert (difference.field, difference.here, difference.there, difference.action) == (
        "active",
        "yes",
        "no",
        "",  # a recheck would change nothing
    )
    assert "until somebody activates it" in difference.note
    out = StringIO()
    call_command("reconcile", "--recheck", "--dry-run", "--kind", "account", stdout=out)
    assert "be left as it is" in out.getvalue()
    assert "0 would be changed; nothing was changed" in out.getvalue()


def test_reactivate_activates_the_account_through_the_batch_api(system_with_batch_api):
    account = ensure_account(system_with_batch_api.learner(), reconcile_now=True)
    deactivate_in_lms(system_with_batch_api, account.username)
    recheck_and_reconcile()
    # The learner needs a new token, which a deactivated account can't get.
    LmsToken.objects.filter(user=account.user).update(access_token="", expires_at=None)
    recheck_and_reconcile()
    assert LmsToken.objects.get(user=account.user).error_code == "deactivated-in-lms"
    reactivate(account.user)
    out = StringIO()
    call_command("reconcile", "--recheck", "--dry-run", "--json", stdout=out)
    planned_actions = {
        difference["what"]: difference["action"]
        for difference in json.loads(out.getvalue())["differences"]
    }
    assert planned_actions[account.username] == "activate it"
    reconcile(["account", "token"])
    assert system_with_batch_api.account(account.username)["is_active"] is True
    account.refresh_from_db()
    assert state(account) is State.IN_SYNC
    assert LmsToken.objects.get(user=account.user).is_valid_for(60)


def test_reactivate_is_refused_through_the_public_api_and_names_the_manual_step(system):
    account = ensure_account(system.learner(), reconcile_now=True)
    deactivate_in_lms(system, account.username)
    reactivate(account.user)
    reconcile(["account"])
    account.refresh_from_db()
    assert (state(account), account.error_code) == (State.REFUSED, "activation-by-hand")
    assert "activate the account in the LMS's admin" in account.error_message


def test_the_account_is_activated_again_if_the_setting_makes_the_application_win(
    system_with_batch_api, settings
):
    account = ensure_account(system_with_batch_api.learner(), reconcile_now=True)
    deactivate_in_lms(system_with_batch_api, account.username)
    settings.USHER_ACCOUNT_WINNER = "application"
    recheck_and_reconcile()
    assert system_with_batch_api.account(account.username)["is_active"] is True


def test_the_account_of_a_deleted_learner_is_not_reported_as_deactivated_in_the_lms(
    system_with_batch_api,
):
    user = system_with_batch_api.learner()
    name = ensure_account(user, reconcile_now=True).username
    user.delete()
    reconcile(["retirement"])
    assert name in learners.facts()["inactive_accounts"]
    assert learners.facts()["deactivated_in_lms"] == []
