"""``/api/users/me``, userinfo, ID tokens and discovery, which the LMS reads."""

import json

import pytest
from django.test import Client
from django.utils import timezone
from jwcrypto import jwk, jwt
from oauth2_provider.models import AccessToken

from usher.contract.paths import ApplicationPath

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]


def get(path, token=""):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client().get(path, headers=headers)


@pytest.mark.parametrize("path", [ApplicationPath.USERS_ME, ApplicationPath.USERS_ME + "/"])
def test_users_me_answers_with_and_without_a_slash(lms, learner, path):
    answer = get(path, lms.exchange()["access_token"])
    assert answer.status_code == 200
    assert answer.json() == {
        "id": learner.pk,
        "username": "ada-at-lms",
        "email": "ada@learners.example",
        "name": "Name ada",
        "country": "",
        "is_active": True,
    }
    assert answer["Cache-Control"] == "no-store"


def test_users_me_returns_the_lms_username_after_the_user_was_renamed(lms, learner):
    token = lms.exchange()["access_token"]
    learner.username = "somebody-else"
    learner.save()
    assert get("/api/users/me", token).json()["username"] == "ada-at-lms"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x y", "Basic abc", "Bearer unknown"])
def test_users_me_without_a_valid_token_is_401(lms, header):
    answer = Client().get("/api/users/me", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_users_me_accepts_no_token_in_the_query_and_no_session(lms):
    token = lms.exchange()["access_token"]
    assert get(f"/api/users/me?access_token={token}").status_code == 401
    assert lms.browser.get("/api/users/me").status_code == 401


def test_a_token_of_another_client_than_the_lms_gives_no_profile(lms, make_client):
    """Otherwise the other client could sign in to the LMS as the learner with this token."""
    other = make_client("another-client")
    other.browser = lms.browser
    token = other.exchange(scope="user:read openid profile")["access_token"]
    answer = other.me(token)
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    bearer = {"Authorization": f"Bearer {token}"}
    data = lms.server.get("/oauth2/userinfo/", headers=bearer).json()
    assert "username" not in data
    assert "email" not in data
    assert data["sub"] == "ada-at-lms"
    token_without_openid = other.exchange(scope="user:read")["access_token"]
    bearer = {"Authorization": f"Bearer {token_without_openid}"}
    assert lms.server.get("/oauth2/userinfo/", headers=bearer).status_code == 403


def test_a_token_of_a_client_with_a_sign_out_address_gives_the_profile(lms, make_client):
    second = make_client("second-lms", backchannel_logout_url="http://second.example/out/")
    second.browser = lms.browser
    assert second.me(second.exchange()["access_token"]).status_code == 200


def test_an_expired_token_is_401(lms):
    token = lms.exchange()["access_token"]
    AccessToken.objects.update(expires=timezone.now())
    answer = get("/api/users/me", token)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")


def test_a_token_without_the_scope_is_403(lms):
    answer = get("/api/users/me", lms.exchange(scope="openid")["access_token"])
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope"' in answer["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("openid", {"sub"}),
        ("openid email", {"sub", "email"}),
        ("openid profile", {"sub", "name", "username", "preferred_username"}),
        ("user:read", {"sub", "name", "username", "preferred_username", "email", "id"}),
    ],
)
def test_userinfo_contains_the_claims_of_the_token_s_scopes(lms, scope, names):
    answer = get("/oauth2/userinfo/", lms.exchange(scope=scope)["access_token"])
    assert set(answer.json()) == names
    assert answer.json()["sub"] == "ada-at-lms"


def test_an_id_token_is_signed_with_the_published_key(lms, settings):
    body = lms.exchange(scope="openid email", nonce="once")
    keys = jwk.JWKSet.from_json(json.dumps(get(ApplicationPath.JWKS).json()))
    token = jwt.JWT(jwt=body["id_token"], key=keys, algs=["RS256"])
    claims = json.loads(token.claims)
    assert claims["iss"] == settings.OAUTH2_PROVIDER["OIDC_ISS_ENDPOINT"]
    assert claims["aud"] == lms.record.client_id
    assert claims["sub"] == "ada-at-lms"
    assert claims["nonce"] == "once"
    assert claims["email"] == "ada@learners.example"
    (published_key,) = get(ApplicationPath.JWKS).json()["keys"]
    assert {"d", "p", "q"}.isdisjoint(published_key), "the private parts of an RSA key"


def test_a_client_without_a_signature_algorithm_is_refused_the_scope_openid(lms):
    lms.record.algorithm = ""
    lms.record.save()
    assert "error=invalid_scope" in lms.authorize(scope="openid").url


def test_discovery_names_existing_endpoints(lms, settings):
    data = get(ApplicationPath.DISCOVERY).json()
    root = settings.SITE_BASE_URL
    assert data["issuer"] == root + "/oauth2"
    assert data["authorization_endpoint"] == root + ApplicationPath.AUTHORIZE
    assert data["token_endpoint"] == root + ApplicationPath.TOKEN
    assert data["jwks_uri"] == root + ApplicationPath.JWKS
    assert data["response_types_supported"] == ["code"]
    assert data["code_challenge_methods_supported"] == ["S256"]
    assert data["authorization_response_iss_parameter_supported"] is True


def test_the_issuer_in_discovery_ignores_the_host_header(lms, settings):
    answer = Client().get(ApplicationPath.DISCOVERY, headers={"Host": "localhost"})
    assert answer.json()["issuer"] == settings.SITE_BASE_URL + "/oauth2"


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-authorization-server/oauth2",
    ],
)
def test_authorization_server_metadata_has_the_issuer_and_no_unserved_endpoint(lms, settings, path):
    data = get(path).json()
    assert data["issuer"] == settings.SITE_BASE_URL + "/oauth2"
    assert "introspection_endpoint" not in data
    assert data["grant_types_supported"] == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize(
    "path", ["introspect/", "device/", "register/", "applications/", "authorized_tokens/"]
)
def test_unused_endpoints_are_not_served(lms, path):
    assert lms.browser.get("/oauth2/" + path).status_code == 404


@pytest.mark.parametrize("path", ApplicationPath.LANDINGS)
def test_the_landing_page_links_only_to_the_home_page(path, client):
    answer = client.get(path + "?code=abc&next=http://evil.example&redirect_uri=//evil.example")
    assert answer.status_code == 200
    assert b"evil" not in answer.content
    assert b"/dashboard/" in answer.content
    assert answer["Referrer-Policy"] == "no-referrer"
