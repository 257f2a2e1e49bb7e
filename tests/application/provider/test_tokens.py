"""Refresh and revocation: RFC 6749 6, RFC 9700 4.14, RFC 7009."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import httpx
import pytest
from django.utils import timezone
from oauth2_provider.models import AccessToken

from tests.application.provider.conftest import CALLBACK, count_valid_tokens

pytestmark = pytest.mark.django_db


def test_a_refresh_gives_new_tokens_and_revokes_the_former_ones(lms):
    first = lms.exchange()
    second = lms.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == first["scope"]
    assert lms.me(first["access_token"]).status_code == 401
    assert lms.me(second["access_token"]).status_code == 200


def test_the_second_use_of_a_refresh_token_revokes_all_later_tokens(lms):
    first = lms.exchange()
    second = lms.refresh(first["refresh_token"]).json()
    third = lms.refresh(second["refresh_token"]).json()
    replay = lms.refresh(first["refresh_token"])
    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert lms.me(third["access_token"]).status_code == 401
    assert lms.refresh(third["refresh_token"]).status_code == 400
    assert count_valid_tokens() == (0, 0)


def test_the_second_use_of_a_code_also_revokes_refreshed_tokens(lms):
    code = lms.code()
    first = lms.token(code=code).json()
    second = lms.refresh(first["refresh_token"]).json()
    assert lms.token(code=code).status_code == 400
    assert lms.me(second["access_token"]).status_code == 401


def test_a_refresh_token_of_another_client_is_refused(lms, make_client):
    tokens = lms.exchange()
    thief = make_client("another")
    assert thief.refresh(tokens["refresh_token"]).status_code == 400
    assert lms.refresh(tokens["refresh_token"]).status_code == 200


def test_a_refresh_with_a_wider_scope_is_refused(lms):
    tokens = lms.exchange()
    answer = lms.token(
        grant_type="refresh_token",
        refresh_token=tokens["refresh_token"],
        redirect_uri="",
        scope="user:read openid",
    )
    assert answer.json()["error"] == "invalid_scope"


def test_a_refresh_token_expires_if_it_is_not_used(lms):
    tokens = lms.exchange()
    # A refresh token's 30 days begin when its access token expires.
    AccessToken.objects.update(expires=timezone.now() - timedelta(days=31))
    assert lms.refresh(tokens["refresh_token"]).status_code == 400


def test_revoking_a_refresh_token_also_revokes_the_access_token(lms):
    tokens = lms.exchange()
    assert lms.revoke(tokens["refresh_token"]).status_code == 200
    assert lms.me(tokens["access_token"]).status_code == 401
    assert lms.refresh(tokens["refresh_token"]).status_code == 400


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "rubbish", ""])
def test_revoking_an_access_token_also_revokes_the_refresh_token_with_any_hint(lms, hint):
    tokens = lms.exchange()
    assert lms.revoke(tokens["access_token"], token_type_hint=hint).status_code == 200
    assert lms.me(tokens["access_token"]).status_code == 401
    assert count_valid_tokens() == (0, 0)


def test_revoking_an_unknown_token_succeeds(lms):
    assert lms.revoke("unknown").status_code == 200


def test_a_token_of_another_client_is_not_revoked(lms, make_client):
    tokens = lms.exchange()
    make_client("another").revoke(tokens["access_token"])
    assert lms.me(tokens["access_token"]).status_code == 200


def test_revoking_with_a_wrong_secret_is_refused(lms):
    tokens = lms.exchange()
    assert lms.revoke(tokens["access_token"], client_secret="wrong").status_code == 401
    assert lms.me(tokens["access_token"]).status_code == 200


#: Concurrent requests are repeated, because the order in which they are processed is random.
REPETITIONS = 5


@pytest.fixture
def post_concurrently(live_server):
    """``post_concurrently(client, *forms)`` posts all forms to the token endpoint at the same
    moment. A form with ``endpoint`` goes to the OAuth2 endpoint of that name."""

    def post(client, *forms):
        start = Barrier(len(forms))
        credentials = {"client_id": client.record.client_id, "client_secret": client.secret}

        def send(form):
            start.wait()
            url = f"{live_server.url}/oauth2/{form.pop('endpoint', 'token')}/"
            return httpx.post(url, data=credentials | form, timeout=120, trust_env=False)

        with ThreadPoolExecutor(len(forms)) as pool:
            return list(pool.map(send, forms))

    return post


def assert_one_pair_and_no_valid_token(answers):
    """Asserts that exactly one answer has a pair of tokens, that the others are ``invalid_grant``,
    and that no valid token is left."""
    pairs = [answer.json() for answer in answers if answer.status_code == 200]
    errors = {
        (answer.status_code, answer.json()["error"])
        for answer in answers
        if answer.status_code != 200
    }
    assert errors == {(400, "invalid_grant")}
    assert len(pairs) == 1
    assert all(pairs[0][name] for name in ("access_token", "refresh_token"))
    assert count_valid_tokens() == (0, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number_of_requests", [2, 4])
def test_concurrent_uses_of_a_refresh_token_give_only_one_pair_of_tokens(
    lms, post_concurrently, number_of_requests
):
    for _ in range(REPETITIONS):
        form = {"grant_type": "refresh_token", "refresh_token": lms.exchange()["refresh_token"]}
        answers = post_concurrently(lms, *[dict(form) for _ in range(number_of_requests)])
        assert_one_pair_and_no_valid_token(answers)


@pytest.mark.django_db(transaction=True)
def test_concurrent_uses_of_a_code_give_only_one_pair_of_tokens(lms, post_concurrently):
    for _ in range(REPETITIONS):
        form = {
            "grant_type": "authorization_code",
            "code": lms.code(),
            "redirect_uri": CALLBACK,
        }
        assert_one_pair_and_no_valid_token(post_concurrently(lms, dict(form), dict(form)))


@pytest.mark.django_db(transaction=True)
def test_no_valid_token_is_left_if_a_refresh_token_is_revoked_during_its_refresh(
    lms, post_concurrently
):
    for _ in range(REPETITIONS):
        refresh_token = lms.exchange()["refresh_token"]
        refreshed, revoked = post_concurrently(
            lms,
            {"grant_type": "refresh_token", "refresh_token": refresh_token},
            {"endpoint": "revoke_token", "token": refresh_token},
        )
        assert revoked.status_code == 200
        assert refreshed.status_code in (200, 400)
        assert count_valid_tokens() == (0, 0)
