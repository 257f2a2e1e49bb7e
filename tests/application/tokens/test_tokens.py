"""Learners' tokens are obtained, refreshed and encrypted. One process at a time renews a token."""

import threading
import time
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.utils import timezone
from oauth2_provider.models import get_grant_model

from tests.support import faults
from usher.application.accounts.services import ensure_account
from usher.application.lms_client import client
from usher.application.tokens import vault
from usher.application.tokens.errors import NoAccount, NotConnected
from usher.application.tokens.models import LmsToken
from usher.application.tokens.provider import grant_codes, lms_application
from usher.application.tokens.services import access_token_for, rotate_keys
from usher.client.authorization import AuthorizationRequest
from usher.client.errors import LmsError

pytestmark = pytest.mark.each_database

TOKEN = "/oauth2/access_token"


def requests_sent(proxy):
    """The paths of the requests, except the check that the server is the LMS, which runs once a
    minute."""
    paths = [path.partition("?")[0] for _, path in proxy.requests]
    return [path for path in paths if path != "/api/user/v1/accounts"]


@pytest.fixture
def learner(system):
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    return user


def expire(user, **more):
    past = timezone.now() - timedelta(minutes=1)
    LmsToken.objects.filter(user=user).update(expires_at=past, **more)


def test_a_valid_token_costs_no_request(learner, faulty):
    assert access_token_for(learner)
    assert faulty.requests == []


def test_an_old_token_is_refreshed(learner, faulty):
    before = access_token_for(learner)
    expire(learner)
    after = access_token_for(learner)
    assert after != before
    assert requests_sent(faulty) == [TOKEN]
    assert client().me(after) == learner.lms_account.username


def test_a_refused_refresh_leads_to_a_new_authorization(learner, faulty):
    expire(learner, refresh_token=vault.encrypt("revoked"))
    token = access_token_for(learner)
    assert client().me(token) == learner.lms_account.username
    paths = requests_sent(faulty)[:-1]
    assert paths[:2] == [TOKEN, "/auth/login/mitxpro-oauth2/"]
    assert paths[-2:] == ["/oauth2/authorize", TOKEN]
    assert len(paths) == 6
    assert "/dashboard" not in paths


def test_one_renewal_for_many_concurrent_requests(learner, faulty):
    expire(learner)
    found, errors = [], []

    def ask():
        try:
            found.append(access_token_for(learner))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(set(found)) == 1
    assert faulty.count(TOKEN) == 1


def test_the_caller_gets_the_error_of_a_failing_lms(learner, faulty):
    expire(learner)
    faulty.break_all(faults.UNAVAILABLE)
    with pytest.raises(LmsError, match="503"):
        access_token_for(learner)
    faulty.mend()
    assert access_token_for(learner)


def test_the_caller_gets_an_error_if_there_is_no_account(system, settings):
    settings.OPENEDX_API_BASE_URL = "http://127.0.0.1:9"
    with pytest.raises(NoAccount, match="Nothing answers"):
        access_token_for(system.learner())


def test_an_unlinked_account_is_refused_with_its_reason(learner, system):
    system.lms.shell(
        "from social_django.models import UserSocialAuth as S; "
        f"link = S.objects.get(uid={learner.lms_account.username!r}); "
        "link.user.email = 'another@example.org'; link.user.save(); link.delete()"
    )
    expire(learner, refresh_token="")
    with pytest.raises(LmsError, match="has no account that is linked"):
        access_token_for(learner)
    row = LmsToken.objects.get(user=learner)
    assert row.refused_at is not None
    assert row.error_code == "not-linked"


def test_codes_are_given_to_the_lms_alone(system):
    application = lms_application()
    user = system.learner()
    good = application.redirect_uris.split()[0] + "?redirect_state=abc"
    assert (
        len(grant_codes([AuthorizationRequest(user.pk, application.client_id, good, "user:read")]))
        == 1
    )
    with pytest.raises(NotConnected, match="client id"):
        grant_codes([AuthorizationRequest(user.pk, "another", good, "user:read")])
    for uri in ("http://evil.example/auth/complete/mitxpro-oauth2/", good + "&x=1", "", "//x"):
        with pytest.raises(NotConnected):
            grant_codes([AuthorizationRequest(user.pk, application.client_id, uri, "user:read")])


@pytest.mark.django_db(transaction=True)
def test_a_learner_deleted_meanwhile_affects_no_other_learner_s_code(system):
    user, application = system.learner(), lms_application()
    landing = application.redirect_uris.split()[0]
    gone = AuthorizationRequest(user.pk + 1000, application.client_id, landing, "user:read")
    here = AuthorizationRequest(user.pk, application.client_id, landing, "user:read")
    codes = grant_codes([gone, here])
    assert list(get_grant_model().objects.values_list("user_id", "code")) == [(user.pk, codes[1])]


def test_keys_are_rotated_and_lost_keys_are_survived(learner, settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.USHER_ENCRYPTION_KEYS = old
    access_token_for(learner)  # the stored token has another key, so a new token is obtained
    settings.USHER_ENCRYPTION_KEYS = f"{new},{old}"
    assert rotate_keys() == (1, 0)
    settings.USHER_ENCRYPTION_KEYS = new
    token = access_token_for(learner)
    assert client().me(token) == learner.lms_account.username
    settings.USHER_ENCRYPTION_KEYS = Fernet.generate_key().decode()
    assert rotate_keys() == (0, 1)
    assert client().me(access_token_for(learner)) == learner.lms_account.username


def test_a_token_that_is_renewed_while_keys_are_rotated_is_not_undone(learner, monkeypatch):
    reading = threading.Event()
    reencrypt = vault.reencrypt

    def slowly(encrypted):
        reading.set()
        time.sleep(0.3)
        return reencrypt(encrypted)

    def renew():
        try:
            reading.wait(60)
            LmsToken.objects.filter(user=learner).update(access_token=vault.encrypt("renewed"))
        finally:
            connection.close()

    monkeypatch.setattr(vault, "reencrypt", slowly)
    worker = threading.Thread(target=renew)
    worker.start()
    assert rotate_keys() == (1, 0)
    worker.join(60)
    assert access_token_for(learner) == "renewed"


def test_secrets_do_not_show(learner):
    from usher.client.payloads import TokenPair

    pair = TokenPair("very-secret", "also-secret", "read", timezone.now())
    assert "secret" not in repr(pair)
    assert client().who.client_secret not in repr(client().who)
    assert client().who.service_token not in repr(client().who)
