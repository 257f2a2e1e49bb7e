"""The LMS as an OAuth2 server."""

import jwt
import pytest

from tests.support.embedded import EmbeddedLms

TOKEN = "/oauth2/access_token"
CREDENTIALS = ("svc-client-id", "svc-client-secret")
LANDING = "http://app.example:8013/login/_private/complete"


def authorize(**changed: str) -> dict[str, str]:
    known = {
        "client_id": "lms-client-id",
        "response_type": "code",
        "scope": "read",
        "redirect_uri": LANDING,
    }
    return {**known, **changed}


def test_client_credentials_in_the_header(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        answer = browser.post(
            TOKEN, auth=CREDENTIALS, data={"grant_type": "client_credentials"}
        ).json()
        assert answer["token_type"] == "Bearer"
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        me = browser.get("/api/user/v1/me", headers=headers).json()
    assert me == {"username": "mit_Application_serviceworker"}


@pytest.mark.parametrize("asymmetric", ["", "true"])
def test_a_json_web_token_signs_its_user_in(lms: EmbeddedLms, asymmetric: str) -> None:
    data = {"grant_type": "client_credentials", "token_type": "jwt", "asymmetric_jwt": asymmetric}
    with lms.browser() as browser:
        token = browser.post(TOKEN, auth=CREDENTIALS, data=data).json()["access_token"]
        answer = browser.get("/api/user/v1/me", headers={"Authorization": f"JWT {token}"})
    assert answer.json() == {"username": "mit_Application_serviceworker"}
    assert jwt.get_unverified_header(token)["alg"] == ("RS512" if asymmetric else "HS256")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["filters"] == []
    assert claims["scopes"] == ["read", "write", "email", "profile"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"grant_type": "nonsense"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "scope": "nonsense"}, "invalid_scope"),
        ({}, "unsupported_grant_type"),
    ],
)
def test_refusals(lms: EmbeddedLms, data: dict[str, str], error: str) -> None:
    with lms.browser() as browser:
        answer = browser.post(TOKEN, auth=CREDENTIALS, data=data)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_authorize_answers_a_registered_address_only(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        good = browser.get("/oauth2/authorize", params=authorize())
        scope = browser.get("/oauth2/authorize", params=authorize(scope="nonsense"))
        unknown = browser.get("/oauth2/authorize", params=authorize(client_id="nope"))
        evil = browser.get("/oauth2/authorize", params=authorize(redirect_uri="http://evil/"))
    assert good.headers["Location"].startswith(f"{LANDING}?code=")
    assert scope.headers["Location"].startswith(f"{LANDING}?error=invalid_scope")
    assert unknown.status_code == evil.status_code == 400
    assert "Location" not in evil.headers


def test_a_code_works_once(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        target = browser.get("/oauth2/authorize", params=authorize()).headers["Location"]
        data = {
            "grant_type": "authorization_code",
            "code": target.partition("code=")[2],
            "redirect_uri": LANDING,
            "client_id": "lms-client-id",
            "client_secret": "lms-client-secret",
        }
        answers = [browser.post(TOKEN, data=data) for _ in range(2)]
        token = answers[0].json()["access_token"]
        me = browser.get("/api/user/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert [answer.status_code for answer in answers] == [200, 400]
    assert me.json() == {"username": name}
