"""An account that the LMS's staff deactivated stays deactivated, and has a state of its own."""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from usher.application.accounts.models import LmsAccount
from usher.application.accounts.repair import missing
from usher.application.accounts.services import ensure_account, reactivate
from usher.application.explain import explain
from usher.application.health import learners
from usher.application.lms.drift import drift
from usher.application.states import State, in_state, state
from usher.application.tokens.models import LmsToken
from usher.engine.services import recheck, reconcile


def set_active(system_with_each_api, username, value):
    system_with_each_api.lms.shell(
        "from django.contrib.auth import get_user_model as g; "
        f"g().objects.filter(username={username!r}).update(is_active={value})"
    )


@pytest.fixture
def deactivated(system_with_each_api):
    """A learner's account that the LMS's staff deactivated."""
    account = ensure_account(system_with_each_api.learner(), reconcile_now=True)
    set_active(system_with_each_api, account.username, False)
    return account


def look_again(kinds=("account", "token", "profile")):
    summary = reconcile(kinds, made_due=recheck(kinds))
    assert not [f for f in summary.failures if f.code != "deactivated-in-lms"], summary.failures


def test_the_account_stays_deactivated_and_has_a_state_of_its_own(
    system_with_each_api, deactivated
):
    look_again()
    assert system_with_each_api.account(deactivated.username)["is_active"] is False
    deactivated.refresh_from_db()
    assert state(deactivated) is State.DEACTIVATED
    assert deactivated in in_state(LmsAccount.objects.all(), State.DEACTIVATED)
    assert deactivated not in in_state(LmsAccount.objects.all(), State.IN_SYNC)
    assert learners.facts()["deactivated_in_lms"] == [deactivated.username]
    line = next(one for one in explain(deactivated.user) if one.topic == "account")
    assert line.state == "Deactivated in the LMS"
    assert "until somebody activates" in line.next
    history = [one.text for one in explain(deactivated.user) if one.topic == "history"]
    assert history[0].endswith("LMS account deactivated in the LMS, not from here.")


def test_a_repair_does_not_promise_to_activate_the_account(system_with_each_api, deactivated):
    look_again()
    LmsToken.objects.update(access_token="", refresh_token="", expires_at=None)
    other = system_with_each_api.learner()
    assert (missing(), missing(deactivated.user), missing(other)) == (1, 0, 1)


def test_another_name_does_not_activate_the_account(system_with_each_api, deactivated):
    user = deactivated.user
    user.name = "Another Name"
    user.save()
    reconcile(["profile"])
    assert system_with_each_api.account(deactivated.username)["is_active"] is False


def test_drift_and_a_dry_run_name_it_and_change_nothing(system_with_each_api, deactivated):
    difference = next(one for one in drift(["account"]) if one.what == deactivated.username)
    assert (difference.field, difference.here, difference.there, difference.action) == (
        "active",
        "yes",
        "no",
        "",
    )
    assert "until somebody activates it" in difference.note
    out = StringIO()
    call_command("reconcile", "--recheck", "--dry-run", "--kind", "account", stdout=out)
    assert "be left as it is" in out.getvalue()
    assert "0 would be changed; nothing was changed" in out.getvalue()


def test_staff_of_the_application_can_activate_the_account(system_with_batch_api):
    account = ensure_account(system_with_batch_api.learner(), reconcile_now=True)
    set_active(system_with_batch_api, account.username, False)
    look_again()
    LmsToken.objects.filter(user=account.user).update(access_token="", expires_at=None)
    look_again()
    assert LmsToken.objects.get(user=account.user).error_code == "deactivated-in-lms"
    reactivate(account.user)
    out = StringIO()
    call_command("reconcile", "--recheck", "--dry-run", "--json", stdout=out)
    would = {
        difference["what"]: difference["action"]
        for difference in json.loads(out.getvalue())["differences"]
    }
    assert would[account.username] == "activate it"
    reconcile(["account", "token"])
    assert system_with_batch_api.account(account.username)["is_active"] is True
    account.refresh_from_db()
    assert state(account) is State.IN_SYNC
    assert LmsToken.objects.get(user=account.user).is_valid_for(60)


def test_the_public_api_cannot_activate_it_and_says_who_can(system):
    account = ensure_account(system.learner(), reconcile_now=True)
    set_active(system, account.username, False)
    reactivate(account.user)
    reconcile(["account"])
    account.refresh_from_db()
    assert (state(account), account.error_code) == (State.REFUSED, "activation-by-hand")
    assert "activate the account in the LMS's admin" in account.error_message


def test_a_setting_lets_the_application_win(system_with_batch_api, settings):
    account = ensure_account(system_with_batch_api.learner(), reconcile_now=True)
    set_active(system_with_batch_api, account.username, False)
    settings.USHER_ACCOUNT_WINNER = "application"
    look_again()
    assert system_with_batch_api.account(account.username)["is_active"] is True


def test_the_account_of_a_deleted_learner_is_meant_to_be_inactive(system_with_batch_api):
    user = system_with_batch_api.learner()
    name = ensure_account(user, reconcile_now=True).username
    user.delete()
    reconcile(["retirement"])
    assert name in learners.facts()["inactive_accounts"]
    assert learners.facts()["deactivated_in_lms"] == []
