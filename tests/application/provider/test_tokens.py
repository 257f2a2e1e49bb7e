"""Refresh and revocation: RFC 6749 6, RFC 9700 4.14, RFC 7009."""

from datetime import timedelta

import pytest
from django.utils import timezone
from oauth2_provider.models import AccessToken

from tests.application.provider.conftest import live_tokens

pytestmark = pytest.mark.django_db


def test_a_refresh_gives_new_tokens_and_ends_the_old(lms):
    first = lms.exchange()
    second = lms.refresh(first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["scope"] == first["scope"]
    assert lms.me(first["access_token"]).status_code == 401
    assert lms.me(second["access_token"]).status_code == 200


def test_a_refresh_token_used_twice_ends_the_whole_family(lms):
    first = lms.exchange()
    second = lms.refresh(first["refresh_token"]).json()
    third = lms.refresh(second["refresh_token"]).json()
    replay = lms.refresh(first["refresh_token"])
    assert (replay.status_code, replay.json()["error"]) == (400, "invalid_grant")
    assert lms.me(third["access_token"]).status_code == 401
    assert lms.refresh(third["refresh_token"]).status_code == 400
    assert live_tokens() == (0, 0)


def test_a_code_used_again_ends_also_what_was_refreshed_since(lms):
    code = lms.code()
    first = lms.token(code=code).json()
    second = lms.refresh(first["refresh_token"]).json()
    assert lms.token(code=code).status_code == 400
    assert lms.me(second["access_token"]).status_code == 401


def test_a_refresh_token_is_bound_to_its_client(lms, make_client):
    tokens = lms.exchange()
    thief = make_client("another")
    assert thief.refresh(tokens["refresh_token"]).status_code == 400
    assert lms.refresh(tokens["refresh_token"]).status_code == 200


def test_a_refresh_can_not_widen_the_scope(lms):
    tokens = lms.exchange()
    answer = lms.token(
        grant_type="refresh_token",
        refresh_token=tokens["refresh_token"],
        redirect_uri="",
        scope="user:read openid",
    )
    assert answer.json()["error"] == "invalid_scope"


def test_an_unused_refresh_token_ends(lms):
    tokens = lms.exchange()
    AccessToken.objects.update(expires=timezone.now() - timedelta(days=31))
    assert lms.refresh(tokens["refresh_token"]).status_code == 400


def test_revoking_a_refresh_token_ends_both(lms):
    tokens = lms.exchange()
    assert lms.revoke(tokens["refresh_token"]).status_code == 200
    assert lms.me(tokens["access_token"]).status_code == 401
    assert lms.refresh(tokens["refresh_token"]).status_code == 400


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "rubbish", ""])
def test_revoking_an_access_token_ends_both_whatever_the_hint(lms, hint):
    tokens = lms.exchange()
    assert lms.revoke(tokens["access_token"], token_type_hint=hint).status_code == 200
    assert lms.me(tokens["access_token"]).status_code == 401
    assert live_tokens() == (0, 0)


def test_revoking_what_is_unknown_is_no_error(lms):
    assert lms.revoke("unknown").status_code == 200


def test_a_client_can_not_revoke_tokens_of_another(lms, make_client):
    tokens = lms.exchange()
    make_client("another").revoke(tokens["access_token"])
    assert lms.me(tokens["access_token"]).status_code == 200


def test_revoking_needs_the_client_s_secret(lms):
    tokens = lms.exchange()
    assert lms.revoke(tokens["access_token"], client_secret="wrong").status_code == 401
    assert lms.me(tokens["access_token"]).status_code == 200
