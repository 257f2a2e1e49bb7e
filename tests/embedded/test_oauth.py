"""The LMS as an OAuth2 server."""

import jwt
import pytest

from tests.support.embedded import EmbeddedLms

TOKEN = "/oauth2/access_token"
CREDENTIALS = ("svc-client-id", "svc-client-secret")
REDIRECT_URI = "http://app.example:8013/login/_private/complete"


def authorize_parameters(**changed: str) -> dict[str, str]:
    """Parameters of the authorize page for the application's client."""
    parameters = {
        "client_id": "lms-client-id",
        "response_type": "code",
        "scope": "read",
        "redirect_uri": REDIRECT_URI,
    }
    return {**parameters, **changed}


def test_client_credentials_in_the_authorization_header_obtain_a_token(lms: EmbeddedLms) -> None:
    with lms.browser() as browser:
        answer = browser.post(
            TOKEN, auth=CREDENTIALS, data={"grant_type": "client_credentials"}
        ).json()
        assert answer["token_type"] == "Bearer"
        headers = {"Authorization": f"Bearer {answer['access_token']}"}
        me = browser.get("/api/user/v1/me", headers=headers).json()
    assert me == {"username": "mit_Application_serviceworker"}


@pytest.mark.parametrize("asymmetric", ["", "true"])
def test_a_json_web_token_authenticates_its_user(lms: EmbeddedLms, asymmetric: str) -> None:
    data = {"grant_type": "client_credentials", "token_type": "jwt", "asymmetric_jwt": asymmetric}
    with lms.browser() as browser:
        token = browser.post(TOKEN, auth=CREDENTIALS, data=data).json()["access_token"]
        answer = browser.get("/api/user/v1/me", headers={"Authorization": f"JWT {token}"})
    assert answer.json() == {"username": "mit_Application_serviceworker"}
    assert jwt.get_unverified_header(token)["alg"] == ("RS512" if asymmetric else "HS256")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["filters"] == []  # not restricted to its user's own data
    assert claims["scopes"] == ["read", "write", "email", "profile"]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"grant_type": "nonsense"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "scope": "nonsense"}, "invalid_scope"),
        ({}, "unsupported_grant_type"),
    ],
)
def test_invalid_token_requests_are_refused(
    lms: EmbeddedLms, data: dict[str, str], error: str
) -> None:
    with lms.browser() as browser:
        answer = browser.post(TOKEN, auth=CREDENTIALS, data=data)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


def test_the_authorize_page_redirects_only_to_registered_redirect_uris(
    lms: EmbeddedLms, name: str
) -> None:
    lms.register(name)
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        valid = browser.get("/oauth2/authorize", params=authorize_parameters())
        unknown_scope = browser.get(
            "/oauth2/authorize", params=authorize_parameters(scope="nonsense")
        )
        unknown_client = browser.get(
            "/oauth2/authorize", params=authorize_parameters(client_id="nope")
        )
        foreign_uri = browser.get(
            "/oauth2/authorize", params=authorize_parameters(redirect_uri="http://evil/")
        )
    assert valid.headers["Location"].startswith(f"{REDIRECT_URI}?code=")
    assert unknown_scope.headers["Location"].startswith(f"{REDIRECT_URI}?error=invalid_scope")
    assert unknown_client.status_code == foreign_uri.status_code == 400
    assert "Location" not in foreign_uri.headers


def test_an_authorization_code_works_only_once(lms: EmbeddedLms, name: str) -> None:
    lms.register(name)
    with lms.browser() as browser:
        lms.sign_in(browser, name)
        target = browser.get("/oauth2/authorize", params=authorize_parameters()).headers["Location"]
        data = {
            "grant_type": "authorization_code",
            "code": target.partition("code=")[2],
            "redirect_uri": REDIRECT_URI,
            "client_id": "lms-client-id",
            "client_secret": "lms-client-secret",
        }
        answers = [browser.post(TOKEN, data=data) for _ in range(2)]
        token = answers[0].json()["access_token"]
        me = browser.get("/api/user/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert [answer.status_code for answer in answers] == [200, 400]
    assert me.json() == {"username": name}
