"""Client records, and how their secrets are stored."""

from base64 import b64encode

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password, make_password
from django.core.cache import cache
from django.core.checks import run_checks
from django.test import Client

from tests.application.provider.conftest import CALLBACK
from usher.application.audit import bounds
from usher.application.audit.models import AuditEvent
from usher.application.provider.clients import ensure_client
from usher.application.provider.models import ClientPolicy

pytestmark = pytest.mark.django_db


@pytest.fixture
def no_failures_counted():
    """Empties the cache before and after the test. The limits of failures count in it."""
    cache.clear()
    yield
    cache.clear()


def test_ensure_client_creates_a_client_only_the_first_time():
    record, secret, changed = ensure_client("edx-oauth-app", [CALLBACK])
    assert changed
    assert len(secret) >= 43, "at least 32 random bytes in base64"
    same_record, no_secret, changed = ensure_client("edx-oauth-app", [CALLBACK])
    assert (same_record.pk, no_secret, changed) == (record.pk, "", False)
    assert same_record.client_secret == record.client_secret


def test_ensure_client_adds_redirect_uris_and_removes_none():
    ensure_client("edx-oauth-app", [CALLBACK])
    record, _, changed = ensure_client("edx-oauth-app", ["http://lms.example:8000/other/"])
    assert changed
    assert record.redirect_uris.split() == [CALLBACK, "http://lms.example:8000/other/"]


def test_ensure_client_uses_the_given_id_and_secret():
    record, secret, _ = ensure_client("x", [CALLBACK], client_id="an-id", client_secret="s" * 40)
    assert (record.client_id, secret) == ("an-id", "s" * 40)
    _, secret, changed = ensure_client("x", [CALLBACK], client_id="an-id", client_secret="s" * 40)
    assert (secret, changed) == ("", False)
    _, secret, changed = ensure_client("x", [CALLBACK], client_secret="t" * 40)
    assert (secret, changed) == ("t" * 40, True)


def test_ensure_client_reports_a_changed_policy_as_a_change():
    ensure_client("x", [CALLBACK])
    _, _, changed = ensure_client("x", [CALLBACK], pkce_required=True)
    assert changed
    assert ClientPolicy.objects.get().pkce_required is True


def test_secrets_are_stored_as_keyed_hashes(lms):
    lms.record.refresh_from_db()
    assert lms.record.client_secret.startswith("usher_keyed$")
    assert lms.secret not in lms.record.client_secret
    assert check_password(lms.secret, lms.record.client_secret)
    assert not check_password(lms.secret + "x", lms.record.client_secret)


def test_each_hash_of_the_same_secret_is_different():
    hashes = {make_password("s" * 40, hasher="usher_keyed") for _ in range(3)}
    assert len(hashes) == 3


def test_a_hash_with_a_former_secret_key_is_valid_while_the_key_is_a_fallback(settings):
    settings.SECRET_KEY = "former"
    stored_hash = make_password("s" * 40, hasher="usher_keyed")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["former"]
    assert check_password("s" * 40, stored_hash)
    settings.SECRET_KEY_FALLBACKS = []
    assert not check_password("s" * 40, stored_hash)


def test_passwords_of_users_are_not_stored_as_keyed_hashes():
    user = get_user_model().objects.create_user("eve", "eve@learners.example", "correct horse")
    assert user.password.startswith("pbkdf2_sha256$")


def test_check_rejects_the_keyed_hasher_as_the_first_hasher(settings):
    settings.PASSWORD_HASHERS = list(reversed(settings.PASSWORD_HASHERS))
    assert "usher.E003" in {message.id for message in run_checks(tags=["usher"])}


def test_a_secret_with_another_hasher_is_stored_as_a_keyed_hash_after_its_use(lms):
    lms.record.client_secret = make_password(lms.secret, hasher="pbkdf2_sha256")
    lms.record.save()
    assert lms.token(code=lms.code(), client_secret="wrong").status_code == 401
    lms.record.refresh_from_db()
    assert lms.record.client_secret.startswith("pbkdf2_sha256$")
    assert lms.token(code=lms.code()).status_code == 200
    lms.record.refresh_from_db()
    assert lms.record.client_secret.startswith("usher_keyed$")
    assert lms.token(code=lms.code()).status_code == 200


def test_the_lms_s_right_secret_is_accepted_after_too_many_wrong_secrets(
    lms, settings, no_failures_counted
):
    settings.USHER_TOKEN_FAILURES_A_MINUTE = 3
    answers = [lms.token(code="x", client_secret="wrong") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert int(answers[-1]["Retry-After"]) > 0
    assert lms.token(code=lms.code()).status_code == 200
    # Another client is not limited, either.
    other_id = lms.record.client_id + "-other"
    assert lms.token(code="x", client_id=other_id).status_code == 401


def test_failures_of_all_client_ids_at_one_address_count_together(
    lms, no_failures_counted, monkeypatch
):
    """The client ids are in the body or in the Authorization header."""
    # The audit log limits its events per minute. This window is longer than the test.
    monkeypatch.setattr(bounds, "WINDOW_SECONDS", 10**10)
    statuses = [
        lms.token(code="x", client_id=f"rotating-{n}", client_secret="wrong").status_code
        for n in range(60)  # the most failures of one address in a minute
    ]
    assert statuses == [401] * 60
    for n in range(30):
        credentials = b64encode(f"in-the-header-{n}:wrong".encode()).decode()
        answer = lms.server.post(
            "/oauth2/token/",
            {"grant_type": "authorization_code", "code": "x"},
            headers={"Authorization": f"Basic {credentials}"},
        )
        assert answer.status_code == 429
    assert lms.revoke("x", client_id="another-one").status_code == 429
    assert lms.token(code="x", client_secret="wrong").status_code == 429
    events = AuditEvent.objects.filter(name="client-refused")
    assert events.count() == bounds.FAILURES_A_WINDOW


def test_above_the_limit_even_the_right_secret_is_refused_without_a_query(
    lms, no_failures_counted, django_assert_num_queries
):
    """This limit applies at an address where no client has succeeded before."""
    for n in range(70):  # more failures than one address may have
        lms.token(code="x", client_id=f"rotating-{n}", client_secret="wrong")
    code = lms.code()
    with django_assert_num_queries(0):
        assert lms.token(code=code).status_code == 429


def test_the_lms_is_not_limited_at_an_address_where_it_succeeded(lms, no_failures_counted):
    """Other clients can fail at the LMS's address behind a proxy that hides clients' addresses."""
    lms.exchange()
    for n in range(70):  # more failures than one address may have
        lms.token(code="x", client_id=f"rotating-{n}", client_secret="wrong")
    assert lms.token(code="x", client_id="rotating-71", client_secret="wrong").status_code == 429
    assert lms.exchange()["access_token"]


def test_failures_of_all_addresses_of_one_ipv6_network_count_together(lms, no_failures_counted):
    for n in range(61):  # one failure more than the network may have
        address = f"2001:db8:1:2::{n:x}"
        lms.server.post(
            "/oauth2/token/",
            {"grant_type": "authorization_code", "client_id": f"c{n}", "client_secret": "w"},
            REMOTE_ADDR=address,
        )
    form = {"grant_type": "authorization_code", "client_id": "c", "client_secret": "w", "code": "x"}
    post = lms.server.post
    assert post("/oauth2/token/", form, REMOTE_ADDR="2001:db8:1:2::ffff").status_code == 429
    assert post("/oauth2/token/", form, REMOTE_ADDR="2001:db8:1:3::1").status_code == 401


def test_refused_clients_are_in_the_audit_log_without_their_secret(lms, no_failures_counted):
    lms.token(code="x", client_secret="not-the-secret")
    event = AuditEvent.objects.get(name="client-refused")
    assert (event.succeeded, event.subject) == (False, lms.record.client_id)
    assert event.address == "127.0.0.1"
    assert "not-the-secret" not in str(AuditEvent.objects.values())


def test_the_admin_shows_a_client_with_its_policy(lms, learner):
    learner.is_staff = learner.is_superuser = True
    learner.save()
    browser = Client()
    browser.force_login(learner)
    page = browser.get(f"/admin/oauth2_provider/application/{lms.record.pk}/change/")
    assert page.status_code == 200
    assert b"PKCE required" in page.content
