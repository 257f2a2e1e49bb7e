"""A learner's LMS account and token, made against a real embedded LMS."""

from usher.application.accounts.services import ensure_account
from usher.application.tokens.models import LmsToken
from usher.application.tokens.services import access_token_for
from usher.application.lms.access import client


def test_a_learner_gets_an_account_and_a_token(joined):
    user = joined.learner(name="Zoë Ωmega")
    account = ensure_account(user, reconcile_now=True)
    assert account.is_ready, account.error_message
    there = joined.account(account.username)
    assert there["email"] == user.email
    assert there["name"] == "Zoë Ωmega"
    assert there["usable"]
    assert there["links"] == [["mitxpro-oauth2", account.username]]
    assert there["id"] == account.lms_user_id
    token = LmsToken.objects.get(user=user)
    assert token.is_settled
    assert client().me(access_token_for(user)) == account.username
