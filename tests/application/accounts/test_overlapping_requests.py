"""Overlapping requests about two rows of one learner, in orders that the simulation found."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.utils import timezone

from tests.application.conftest import make_learner
from usher.application.accounts.details import Details
from usher.application.accounts.models import LmsProfile
from usher.application.accounts.services import ensure_account, follow_profile
from usher.client.errors import LmsError
from usher.engine.kinds import Job, Outcome
from usher.engine.policy import retry_plan
from usher.engine.registry import kind


@pytest.fixture
def learner(transactional_db):
    """A learner whose LMS account is recorded as created."""
    user = make_learner()
    account = ensure_account(user)
    type(account).objects.filter(pk=account.pk).update(created_in_lms_at=timezone.now())
    return user


def test_an_account_sent_with_outdated_details_makes_the_profile_due(learner):
    follow_profile(learner)
    rows = LmsProfile.objects.filter(user=learner)
    # The profile is in sync.
    rows.update(observed_name=learner.name, observed_generation=1)
    rows.forget_work()
    row = type(learner.lms_account).objects.get(user=learner)
    # The request about the account was prepared before the learner got the present name.
    outdated_details = Details(email=learner.email, name="Old", country="")
    outdated = SimpleNamespace(details=outdated_details, registration_token="")
    now = timezone.now() + timedelta(seconds=1)
    job = Job(row, display_name=row.username, data=outdated)
    kind("account").settle([(job, Outcome(changed=True))], now)
    assert rows.due(now).exists()
    assert rows.get().observed_name == "", (
        "the public API sends a name only if it differs from this one"
    )


def test_a_profile_whose_account_is_missing_in_the_lms_is_retried(learner):
    """The retry succeeds when the account has been created again. A refused profile would not be
    retried."""
    # An LMS that has no account.
    lms = SimpleNamespace(
        account=lambda name: None, accounts=lambda names: {}, change_account=lambda *_: None
    )
    context = SimpleNamespace(lms=lms, evidence=SimpleNamespace(require=lambda *_: None))
    details = Details(email=learner.email, name=learner.name, country="")
    data = SimpleNamespace(
        username="x", token="", desired=details, observed=details, is_active=True
    )
    with pytest.raises(LmsError) as raised:
        kind("profile").act(Job(LmsProfile(user=learner), display_name="x", data=data), context)
    assert raised.value.code == "not-found"
    assert retry_plan(raised.value, attempts=0).delay is not None
