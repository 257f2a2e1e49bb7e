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


def test_a_client_is_created_once_and_then_kept():
    record, secret, changed = ensure_client("edx-oauth-app", [CALLBACK])
    assert changed and len(secret) >= 43
    again, no_secret, changed_again = ensure_client("edx-oauth-app", [CALLBACK])
    assert (again.pk, no_secret, changed_again) == (record.pk, "", False)
    assert again.client_secret == record.client_secret


def test_redirect_uris_are_added_and_kept():
    ensure_client("edx-oauth-app", [CALLBACK])
    record, _, changed = ensure_client("edx-oauth-app", ["http://lms.example:8000/other/"])
    assert changed
    assert record.redirect_uris.split() == [CALLBACK, "http://lms.example:8000/other/"]


def test_id_and_secret_can_be_given():
    record, secret, _ = ensure_client("x", [CALLBACK], client_id="an-id", client_secret="s" * 40)
    assert (record.client_id, secret) == ("an-id", "s" * 40)
    _, secret, changed = ensure_client("x", [CALLBACK], client_id="an-id", client_secret="s" * 40)
    assert (secret, changed) == ("", False)
    _, secret, changed = ensure_client("x", [CALLBACK], client_secret="t" * 40)
    assert (secret, changed) == ("t" * 40, True)


def test_a_policy_that_changes_counts_as_a_change():
    ensure_client("x", [CALLBACK])
    assert ensure_client("x", [CALLBACK], pkce_required=True)[2] is True
    assert ClientPolicy.objects.get().pkce_required is True


def test_secrets_are_kept_as_keyed_hashes(lms):
    lms.record.refresh_from_db()
    assert lms.record.client_secret.startswith("usher_keyed$")
    assert lms.secret not in lms.record.client_secret
    assert check_password(lms.secret, lms.record.client_secret)
    assert not check_password(lms.secret + "x", lms.record.client_secret)


def test_the_same_secret_never_looks_the_same():
    hashes = {make_password("s" * 40, hasher="usher_keyed") for _ in range(3)}
    assert len(hashes) == 3


def test_a_former_key_works_while_it_is_listed(settings):
    settings.SECRET_KEY = "former"
    kept = make_password("s" * 40, hasher="usher_keyed")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["former"]
    assert check_password("s" * 40, kept)
    settings.SECRET_KEY_FALLBACKS = []
    assert not check_password("s" * 40, kept)


def test_passwords_of_users_never_use_the_keyed_hash():
    user = get_user_model().objects.create_user("eve", "eve@learners.example", "correct horse")
    assert user.password.startswith("pbkdf2_sha256$")


def test_the_keyed_hasher_may_not_come_first(settings):
    settings.PASSWORD_HASHERS = list(reversed(settings.PASSWORD_HASHERS))
    assert "usher.E003" in {found.id for found in run_checks(tags=["usher"])}


def test_an_older_slow_secret_works_and_is_kept_anew(lms):
    lms.record.client_secret = make_password(lms.secret, hasher="pbkdf2_sha256")
    lms.record.save()
    assert lms.token(code=lms.code(), client_secret="wrong").status_code == 401
    lms.record.refresh_from_db()
    assert lms.record.client_secret.startswith("pbkdf2_sha256$")
    assert lms.token(code=lms.code()).status_code == 200
    lms.record.refresh_from_db()
    assert lms.record.client_secret.startswith("usher_keyed$")
    assert lms.token(code=lms.code()).status_code == 200


def test_many_failures_are_slowed_down_but_never_lock_the_lms_out(lms, settings):
    cache.clear()
    settings.USHER_TOKEN_FAILURES_A_MINUTE = 3
    answers = [lms.token(code="x", client_secret="wrong") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert int(answers[-1]["Retry-After"]) > 0
    assert lms.token(code=lms.code()).status_code == 200
    other = lms.record.client_id + "-other"
    assert lms.token(code="x", client_id=other).status_code == 401
    cache.clear()


@pytest.fixture
def nothing_counted():
    cache.clear()
    yield
    cache.clear()


def test_other_client_ids_are_no_way_around_the_limit(lms, nothing_counted, monkeypatch):
    """The limit counts client ids in the body and in the header. A refusal never shows whether the
    secret was right."""
    # The audit log limits its events per minute. This window is longer than the test.
    monkeypatch.setattr(bounds, "WINDOW_SECONDS", 10**10)
    statuses = [
        lms.token(code="x", client_id=f"rotating-{n}", client_secret="wrong").status_code
        for n in range(60)
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
    assert AuditEvent.objects.filter(name="client-refused").count() <= 31


def test_guesses_above_the_limit_are_refused_without_a_check(
    lms, nothing_counted, django_assert_num_queries
):
    """A guess above the limit costs no query, and even a right guess is refused."""
    for n in range(70):
        lms.token(code="x", client_id=f"rotating-{n}", client_secret="wrong")
    code = lms.code()
    with django_assert_num_queries(0):
        assert lms.token(code=code).status_code == 429


def test_the_lms_is_not_limited_at_an_address_where_it_succeeded_before(lms, nothing_counted):
    """The LMS is not limited even if others fail at the same address, for example behind a proxy
    that hides clients' addresses."""
    lms.exchange()
    for n in range(70):
        lms.token(code="x", client_id=f"rotating-{n}", client_secret="wrong")
    assert lms.token(code="x", client_id="rotating-71", client_secret="wrong").status_code == 429
    assert lms.exchange()["access_token"]


def test_addresses_of_one_network_count_together(lms, nothing_counted):
    for n in range(61):
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


def test_refused_clients_are_in_the_audit_log_without_their_secret(lms):
    cache.clear()
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
