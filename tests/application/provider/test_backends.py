"""The LMS's published backends sign in at this provider over HTTP."""

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from ol_social_auth.backends import OLOAuth2
from social_auth_mitxpro.backends import MITxProOAuth2
from social_core.strategy import BaseStrategy

from usher.application.provider.clients import ensure_client
from usher.contract.paths import ApplicationPath

REDIRECT_URI = "http://lms.example:8000/auth/complete/{}/"


class Strategy(BaseStrategy):
    """The parts of a site that python-social-auth needs: settings, a session, the request's
    data."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings, self.session, self.data = settings, {}, {}

    def get_setting(self, name):
        return self.settings[name]

    def request_data(self, merge=True):
        return self.data

    def build_absolute_uri(self, path=None):
        return path

    def session_get(self, name, default=None):
        return self.session.get(name, default)

    def session_set(self, name, value):
        self.session[name] = value

    def session_pop(self, name):
        return self.session.pop(name, None)

    def session_setdefault(self, name, value):
        return self.session.setdefault(name, value)


def settings_of(root: str, client: Any, secret: str, *, discovery: bool) -> dict[str, Any]:
    """The backend's settings. root: the application's address. discovery: whether the backend finds
    the endpoints in the discovery document."""
    common = {"KEY": client.client_id, "SECRET": secret, "API_ROOT": root, "DISCOVERY_URL": ""}
    if discovery:
        return common | {"DISCOVERY_URL": root + ApplicationPath.DISCOVERY}
    return common | {
        "AUTHORIZATION_URL": root + ApplicationPath.AUTHORIZE,
        "ACCESS_TOKEN_URL": root + ApplicationPath.TOKEN,
    }


@pytest.fixture
def application_url(live_server, settings):
    """The address of the application, which a thread serves."""
    settings.SITE_BASE_URL = live_server.url
    settings.OAUTH2_PROVIDER = settings.OAUTH2_PROVIDER | {
        "OIDC_ISS_ENDPOINT": live_server.url + "/oauth2"
    }
    return live_server.url


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("backend_class", "discovery"),
    [(MITxProOAuth2, False), (OLOAuth2, False), (OLOAuth2, True)],
    ids=["mitxpro-oauth2", "ol-oauth2", "ol-oauth2 with discovery"],
)
def test_a_published_backend_obtains_the_learner_s_username_address_and_name(
    application_url, learner, client, backend_class, discovery
):
    redirect_uri = REDIRECT_URI.format(backend_class.name)
    record, secret, _ = ensure_client("edx-oauth-app", [redirect_uri])
    strategy = Strategy(settings_of(application_url, record, secret, discovery=discovery))
    backend = backend_class(strategy, redirect_uri=redirect_uri)

    authorization_url = urlsplit(backend.auth_url())
    client.force_login(learner)
    redirect = client.get(f"{authorization_url.path}?{authorization_url.query}")
    assert redirect.status_code == 302
    parameters = parse_qs(urlsplit(redirect.url).query)
    strategy.data = {name: values[0] for name, values in parameters.items()}
    backend.data = strategy.data

    tokens = backend.request_access_token(
        backend.access_token_url(),
        data=backend.auth_complete_params(backend.validate_state()),
        headers=backend.auth_headers(),
        auth=backend.auth_complete_credentials(),
        method=backend.ACCESS_TOKEN_METHOD,
    )
    if isinstance(tokens, requests.Response):
        tokens = tokens.json()
    answer = backend.user_data(tokens["access_token"])
    assert backend.get_user_id({}, answer) == "ada-at-lms"
    assert backend.get_user_details(answer) == {
        "username": "ada-at-lms",
        "email": "ada@learners.example",
        "name": "Name ada",
    }
