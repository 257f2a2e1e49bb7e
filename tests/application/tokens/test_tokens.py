"""Learners' tokens are obtained, refreshed and encrypted. One process at a time renews a token."""

import re
import threading
import time
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.utils import timezone
from oauth2_provider.models import get_grant_model

from tests.application.conftest import UNREACHABLE_URL
from tests.support import faults
from tests.support.impostors import Impostor
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


def paths_of_requests(proxy):
    """The paths of the requests, except the check that the server is the LMS, which runs once a
    minute."""
    paths = [path.partition("?")[0] for _, path in proxy.requests]
    return [path for path in paths if path != "/api/user/v1/accounts"]


@pytest.fixture
def learner(system):
    """A learner with an LMS account and a valid token."""
    user = system.learner()
    ensure_account(user, reconcile_now=True)
    return user


def expire(user, **fields):
    """Lets the user's token expire. fields: further changes of the token's record."""
    a_minute_ago = timezone.now() - timedelta(minutes=1)
    LmsToken.objects.filter(user=user).update(expires_at=a_minute_ago, **fields)


def test_a_valid_token_is_returned_without_a_request(learner, faulty):
    assert access_token_for(learner)
    assert faulty.requests == []


def test_an_expired_token_is_refreshed_with_one_request(learner, faulty):
    expired_token = access_token_for(learner)
    expire(learner)
    token = access_token_for(learner)
    assert token != expired_token
    assert paths_of_requests(faulty) == [TOKEN]
    assert client().me(token) == learner.lms_account.username


def test_a_refused_refresh_leads_to_a_new_authorization(learner, faulty):
    expire(learner, refresh_token=vault.encrypt("revoked"))
    token = access_token_for(learner)
    assert client().me(token) == learner.lms_account.username
    *paths, _request_of_me = paths_of_requests(faulty)
    assert paths[:2] == [TOKEN, "/auth/login/mitxpro-oauth2/"]
    assert paths[-2:] == ["/oauth2/authorize", TOKEN]
    assert len(paths) == 6, "one refused refresh and the requests of an authorization"
    assert "/dashboard" not in paths


def test_concurrent_requests_renew_a_token_only_once(learner, faulty):
    expire(learner)
    tokens, errors = [], []

    def get_token():
        try:
            tokens.append(access_token_for(learner))
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=get_token) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(set(tokens)) == 1
    assert faulty.count(TOKEN) == 1


def test_access_token_for_raises_the_error_of_a_failing_lms(learner, faulty):
    expire(learner)
    faulty.break_all(faults.UNAVAILABLE)
    with pytest.raises(LmsError, match="503"):
        access_token_for(learner)
    faulty.mend()
    assert access_token_for(learner)


def test_access_token_for_fails_if_the_account_cannot_be_created(system, settings):
    settings.OPENEDX_API_BASE_URL = UNREACHABLE_URL
    with pytest.raises(NoAccount, match="Nothing answers"):
        access_token_for(system.learner())


def test_the_token_of_an_unlinked_account_is_refused_with_its_reason(learner, system):
    # With the learner's e-mail address, an LMS without usher.lms would link the account again.
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


def test_codes_are_granted_only_to_the_lms_s_client_and_redirect_uri(system):
    application = lms_application()
    user = system.learner()

    def request_code(client_id, redirect_uri):
        request = AuthorizationRequest(user.pk, client_id, redirect_uri, scope="user:read")
        return grant_codes([request])

    valid_uri = application.redirect_uris.split()[0] + "?redirect_state=abc"
    assert len(request_code(application.client_id, valid_uri)) == 1
    with pytest.raises(NotConnected, match="client id"):
        request_code("another", valid_uri)
    foreign_uri = "http://evil.example/auth/complete/mitxpro-oauth2/"
    for invalid_uri in (foreign_uri, f"{valid_uri}&x=1", "", "//x"):
        with pytest.raises(NotConnected):
            request_code(application.client_id, invalid_uri)


@pytest.mark.django_db(transaction=True)
def test_grant_codes_stores_no_code_for_a_deleted_learner(system):
    user, application = system.learner(), lms_application()
    uri, *_ = application.redirect_uris.split()
    id_of_deleted = user.pk + 1000
    codes = grant_codes(
        [
            AuthorizationRequest(user_id, application.client_id, uri, scope="user:read")
            for user_id in (id_of_deleted, user.pk)
        ]
    )
    _, code_of_user = codes
    grants = get_grant_model().objects.values_list("user_id", "code")
    assert list(grants) == [(user.pk, code_of_user)]


def test_tokens_are_reencrypted_with_a_new_key_and_renewed_if_the_key_is_lost(learner, settings):
    old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    settings.USHER_ENCRYPTION_KEYS = old
    access_token_for(learner)  # the stored token has another key, so a new token is obtained
    settings.USHER_ENCRYPTION_KEYS = f"{new},{old}"
    encrypted, unreadable = rotate_keys()
    assert (encrypted, unreadable) == (1, 0)
    settings.USHER_ENCRYPTION_KEYS = new
    token = access_token_for(learner)
    assert client().me(token) == learner.lms_account.username
    # Both keys are lost.
    settings.USHER_ENCRYPTION_KEYS = Fernet.generate_key().decode()
    encrypted, unreadable = rotate_keys()
    assert (encrypted, unreadable) == (0, 1)
    assert client().me(access_token_for(learner)) == learner.lms_account.username


def test_rotating_keys_keeps_a_token_that_is_renewed_meanwhile(learner, monkeypatch):
    reading = threading.Event()
    reencrypt = vault.reencrypt

    def reencrypt_slowly(encrypted):
        reading.set()
        time.sleep(0.3)  # meanwhile, the other thread's update waits for the lock of the rotation
        return reencrypt(encrypted)

    def renew():
        try:
            reading.wait(60)
            LmsToken.objects.filter(user=learner).update(access_token=vault.encrypt("renewed"))
        finally:
            connection.close()

    monkeypatch.setattr(vault, "reencrypt", reencrypt_slowly)
    renewing_thread = threading.Thread(target=renew)
    renewing_thread.start()
    encrypted, unreadable = rotate_keys()
    assert (encrypted, unreadable) == (1, 0)
    renewing_thread.join(60)
    assert access_token_for(learner) == "renewed"


def test_repr_shows_no_secrets(learner):
    from usher.client.payloads import TokenPair

    pair = TokenPair(
        access_token="very-secret",
        refresh_token="also-secret",
        scope="read",
        expires_at=timezone.now(),
    )
    assert "secret" not in repr(pair)
    assert client().who.client_secret not in repr(client().who)
    assert client().who.service_token not in repr(client().who)


@pytest.mark.any_database
@pytest.mark.parametrize("seconds", [0, 30])
def test_tokens_that_end_within_a_minute_are_renewed_once_and_then_reported(
    system_with_each_api, faulty_with_each_api, seconds
):
    """The LMS's lifetime of tokens may be set too short. Each renewal gives such a token again."""

    def shorten(body: bytes) -> bytes:
        return re.sub(rb'"expires_in": ?\d+', b'"expires_in": %d' % seconds, body)

    faulty_with_each_api.impostor = Impostor("short", spoil=shorten)
    user = system_with_each_api.learner()
    with pytest.raises(LmsError, match="Raise the lifetime of access tokens in the LMS"):
        access_token_for(user)
    # One request is the renewal. With the public API, the first token comes from there, too.
    assert faulty_with_each_api.count(TOKEN) in (1, 2)
