"""Changed names, e-mail addresses and countries of learners who have an LMS account."""

import pytest

from usher.application.accounts.models import LmsProfile
from usher.application.accounts.services import ensure_account
from usher.application.adapter import DefaultAdapter
from usher.engine.services import reconcile


class UnknownCountry(DefaultAdapter):
    """Gives a country that the LMS does not know."""

    def country(self, user):
        return "XX"


@pytest.mark.django_db(transaction=True)
def test_a_country_that_the_lms_does_not_know_does_not_hold_back_a_new_name(
    system_with_each_api, settings
):
    user = system_with_each_api.learner()
    username = ensure_account(user, reconcile_now=True).username
    settings.USHER_ADAPTER = f"{__name__}.UnknownCountry"
    user.name = "Another Name"
    user.save()
    reconcile(["token", "profile"])
    row = LmsProfile.objects.get(user=user)
    assert row.refused_at is not None, row.error_message
    assert "country" in row.error_message
    assert system_with_each_api.account(username)["name"] == "Another Name"

    # With a known country, the row is settled.
    settings.USHER_ADAPTER = "usher.application.adapter.DefaultAdapter"
    user.name = "Third Name"
    user.save()
    reconcile(["profile"])
    row.refresh_from_db()
    assert row.is_settled, row.error_message
    assert row.observed_name == "Third Name"
