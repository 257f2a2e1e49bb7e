"""The authorization code grant: RFC 6749 4.1 and 5, RFC 9700 2.1, RFC 9207."""

import base64
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken

from tests.application.provider.conftest import CALLBACK, answer_of, count_valid_tokens

pytestmark = pytest.mark.django_db


def test_a_signed_in_learner_is_redirected_with_a_code(lms):
    answer = lms.authorize()
    assert answer.url.startswith(CALLBACK + "?")
    assert answer_of(answer)["code"]
    assert answer_of(answer)["state"] == "some-state"
    assert "no-store" in answer["Cache-Control"]


def test_an_anonymous_visitor_is_redirected_to_sign_in_first(lms):
    answer = lms.authorize(browser=Client())
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/login/?next=/oauth2/authorize/")


def test_an_authorization_answer_names_its_issuer(lms, settings):
    assert answer_of(lms.authorize())["iss"] == settings.OAUTH2_PROVIDER["OIDC_ISS_ENDPOINT"]


def test_a_code_gives_tokens_that_no_cache_may_keep(lms, learner):
    answer = lms.token(code=lms.code())
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert answer["Content-Type"].startswith("application/json")
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["scope"] == "user:read"
    assert body["expires_in"] > 0
    assert lms.me(body["access_token"]).json()["email"] == learner.email


def test_tokens_are_not_stored_in_the_clear(lms):
    body = lms.exchange()
    assert AccessToken.objects.get().token == ""
    assert RefreshToken.objects.get().token == ""
    assert body["access_token"] not in str(AccessToken.objects.values())


def test_the_second_use_of_a_code_fails_and_revokes_the_tokens_of_the_first(lms):
    code = lms.code()
    first = lms.token(code=code).json()
    second = lms.token(code=code)
    assert (second.status_code, second.json()["error"]) == (400, "invalid_grant")
    assert lms.me(first["access_token"]).status_code == 401
    assert lms.refresh(first["refresh_token"]).status_code == 400
    assert count_valid_tokens() == (0, 0)


def test_a_code_sent_by_another_client_is_refused_and_revokes_no_tokens(lms, make_client):
    code = lms.code()
    thief = make_client("another", redirect_uris=[CALLBACK])
    assert thief.token(code=code).json()["error"] == "invalid_grant"
    tokens = lms.token(code=code).json()
    assert thief.token(code=code).json()["error"] == "invalid_grant"
    assert lms.me(tokens["access_token"]).status_code == 200


def test_an_expired_code_is_refused(lms):
    code = lms.code()
    Grant.objects.update(expires=timezone.now() - timedelta(seconds=1))
    assert lms.token(code=code).json()["error"] == "invalid_grant"


def test_a_code_expires_after_a_minute(lms):
    lms.code()
    assert Grant.objects.get().expires <= timezone.now() + timedelta(seconds=60)


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "http://evil.example/auth/complete/mitxpro-oauth2/",
        "http://lms.example:8000/auth/complete/mitxpro-oauth2",
        "http://lms.example:8000/auth/complete/mitxpro-oauth2/x",
        "http://lms.example:8000/auth/complete/mitxpro-oauth2/../../evil/",
        "http://lms.example:8000/auth/complete/mitxpro-oauth2/?next=http://evil.example",
        "http://lms.example:8000/auth/complete/mitxpro-oauth2/#fragment",
        "https://lms.example:8000/auth/complete/mitxpro-oauth2/",
        "http://LMS.example:8000/auth/complete/mitxpro-oauth2/",
        "http://lms.example:8001/auth/complete/mitxpro-oauth2/",
        "http://lms.example:8000@evil.example/auth/complete/mitxpro-oauth2/",
        "http://lms.example.evil.example:8000/auth/complete/mitxpro-oauth2/",
        "javascript:alert(1)",
        "//evil.example/",
        "\\\\evil.example",
    ],
)
def test_a_redirect_uri_that_is_not_exactly_a_registered_one_is_refused(lms, redirect_uri):
    answer = lms.authorize(redirect_uri=redirect_uri)
    assert answer.status_code == 400
    assert "Location" not in answer


@pytest.mark.parametrize(
    "mode", ["fragment", "form_post", "query.jwt", "web_message", ["query", "fragment"]]
)
def test_an_authorization_request_for_another_response_mode_than_query_is_refused(lms, mode):
    """A code in a fragment would stay in the browser's address when the LMS redirects."""
    answer = lms.authorize(response_mode=mode)
    assert answer.status_code == 400
    assert "Location" not in answer


def test_an_authorization_request_may_name_the_response_mode_query(lms):
    assert answer_of(lms.authorize(response_mode="query"))["code"]


def test_the_parameter_that_python_social_auth_adds_to_the_redirect_uri_is_accepted(lms):
    uri = CALLBACK + "?redirect_state=abc"
    code = answer_of(lms.authorize(redirect_uri=uri))["code"]
    assert lms.token(code=code).status_code == 400, "this request has another redirect URI"
    code = answer_of(lms.authorize(redirect_uri=uri))["code"]
    assert lms.token(code=code, redirect_uri=uri).status_code == 200


def test_a_token_request_with_another_redirect_uri_than_its_code_is_refused(lms, make_client):
    lms.record.redirect_uris += " http://lms.example:8000/other/"
    lms.record.save()
    answer = lms.token(code=lms.code(), redirect_uri="http://lms.example:8000/other/")
    assert answer.status_code == 400


def test_an_unknown_client_gets_an_error_page_and_no_redirect(lms):
    answer = lms.authorize(client_id="unknown")
    assert answer.status_code == 400
    assert "Location" not in answer


@pytest.mark.parametrize(
    "changed_fields",
    [
        {"client_id": "unknown"},
        {"client_id": "\u202e"},
        {"redirect_uri": "http://evil.example/"},
        {"redirect_uri": "http://evil.example/", "resource": "not a resource"},
        {"redirect_uri": "http://[", "resource": "x"},
    ],
)
def test_a_consent_form_with_a_changed_client_or_redirect_uri_redirects_nowhere(
    lms, changed_fields
):
    answer = lms.consent(**changed_fields)
    assert answer.status_code == 400
    assert "Location" not in answer


def test_an_unchanged_consent_form_gives_a_code(lms):
    assert answer_of(lms.consent())["code"]


@pytest.mark.parametrize("response_type", ["token", "id_token", "code token", "rubbish", "none"])
def test_response_types_other_than_code_are_refused(lms, response_type):
    answer = lms.authorize(response_type=response_type)
    assert answer_of(answer)["error"] in {"unauthorized_client", "unsupported_response_type"}
    assert AccessToken.objects.count() == 0


@pytest.mark.parametrize("grant_type", ["password", "client_credentials", "rubbish", ""])
def test_grant_types_other_than_authorization_code_and_refresh_token_are_refused(
    lms, learner, grant_type
):
    answer = lms.token(
        grant_type=grant_type, username=learner.username, password="correct horse battery"
    )
    assert answer.status_code in {400, 401}
    assert AccessToken.objects.count() == 0


def test_an_unknown_scope_is_refused(lms):
    assert answer_of(lms.authorize(scope="admin"))["error"] == "invalid_scope"


def test_credentials_in_the_query_are_refused(lms):
    code = lms.code()
    query = f"?client_id={lms.record.client_id}&client_secret={lms.secret}"
    answer = Client().post(
        "/oauth2/token/" + query, {"grant_type": "authorization_code", "code": code}
    )
    assert answer.status_code == 400
    assert Client().get(f"/oauth2/token/{query}&code={code}").status_code == 405


def test_a_code_stays_valid_after_a_request_with_a_wrong_secret(lms):
    code = lms.code()
    answer = lms.token(code=code, client_secret="wrong")
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert answer["WWW-Authenticate"].startswith("Basic")
    assert lms.token(code=code).status_code == 200


def test_a_token_request_without_the_client_s_secret_is_refused(lms):
    assert lms.token(code=lms.code(), client_secret="").status_code == 401


def test_a_client_can_send_its_secret_by_basic_authentication(lms):
    credentials = base64.b64encode(f"{lms.record.client_id}:{lms.secret}".encode()).decode()
    answer = Client().post(
        "/oauth2/token/",
        {"grant_type": "authorization_code", "code": lms.code(), "redirect_uri": CALLBACK},
        headers={"Authorization": f"Basic {credentials}"},
    )
    assert answer.status_code == 200


def test_codes_and_tokens_of_a_deactivated_learner_are_refused(lms, learner):
    code, tokens = lms.code(), lms.exchange()
    learner.is_active = False
    learner.save()
    assert lms.token(code=code).json()["error"] == "invalid_grant"
    assert lms.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert lms.me(tokens["access_token"]).status_code == 401


def test_a_client_without_skip_authorization_shows_a_consent_form_with_a_csrf_token(lms):
    lms.record.skip_authorization = False
    lms.record.save()
    page = lms.authorize()
    assert page.status_code == 200
    browser_without_csrf_token = Client(enforce_csrf_checks=True)
    browser_without_csrf_token.force_login(page.context["user"])
    answer = browser_without_csrf_token.post("/oauth2/authorize/", {"allow": "on"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "query",
    ["?%", "?client_id=%00", "?client_id=%ff", "?a=b&a=c&client_id=x&client_id=y", "?x=\x01"],
)
def test_malformed_requests_are_answered_without_an_exception(lms, query):
    assert lms.browser.get("/oauth2/authorize/" + query).status_code in {400, 404}


@pytest.mark.parametrize("body", [b"", b"%", b"code=%00&grant_type=authorization_code", b"\xff"])
def test_malformed_token_requests_are_answered_without_an_exception(lms, body):
    answer = Client().post("/oauth2/token/", body, "application/x-www-form-urlencoded")
    assert answer.status_code in {400, 401}
    assert lms.token(code="a\x00b").status_code == 400
    assert lms.token(client_id="a\x00b", code="x").status_code == 401


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"scope": "unknown"}, "invalid_scope"),
        ({"response_type": "token"}, "unauthorized_client"),
        ({"response_type": "nonsense"}, "unsupported_response_type"),
        ({"resource": "no-uri"}, "invalid_target"),
    ],
)
def test_an_authorization_error_names_its_issuer(lms, settings, query, error):
    """RFC 9207 2: the issuer tells a client of several providers which provider sent the answer."""
    answer = answer_of(lms.authorize(**query))
    assert (answer["error"], answer["state"]) == (error, "some-state")
    assert answer["iss"] == settings.OAUTH2_PROVIDER["OIDC_ISS_ENDPOINT"]


def test_the_error_for_an_anonymous_visitor_with_prompt_none_names_its_issuer(lms, settings):
    visitor = Client()
    answer = answer_of(lms.authorize(visitor, prompt="none", scope="openid user:read"))
    assert answer["error"] == "login_required"
    assert answer["iss"] == settings.OAUTH2_PROVIDER["OIDC_ISS_ENDPOINT"]


@pytest.mark.parametrize(
    "grant_type",
    [
        "urn:ietf:params:oauth:grant-type:device_code",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "client_credentials",
        "password",
        "implicit",
        "\x00",
        "x" * 10_000,
        "",
    ],
)
@pytest.mark.parametrize("with_credentials", [False, True])
def test_other_grants_are_refused_with_the_protocol_s_error(lms, grant_type, with_credentials):
    data = {"grant_type": grant_type, "device_code": "x", "username": "a", "password": "b"}
    if not with_credentials:
        data |= {"client_id": "", "client_secret": ""}
    answer = lms.token(**data)
    assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")
    assert "no-store" in answer["Cache-Control"]
