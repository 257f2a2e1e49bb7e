"""An OAuth2 client like the LMS, and a learner who is signed in to the application."""

import base64
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken

from usher.application.accounts.models import LmsAccount
from usher.application.provider.clients import ensure_client
from usher.contract.oauth import SCOPE_USER_READ

CALLBACK = "http://lms.example:8000/auth/complete/mitxpro-oauth2/"


def make_learner(username: str, **fields: Any) -> Any:
    """A learner whose LMS account is named ``<username>-at-lms``."""
    user = get_user_model().objects.create_user(
        username=username,
        email=fields.pop("email", f"{username}@learners.example"),
        password=fields.pop("password", None),
        name=fields.pop("name", f"Name {username}"),
        **fields,
    )
    LmsAccount.objects.create(user=user, username=f"{username}-at-lms", reserved_at=timezone.now())
    return user


@dataclass
class OAuthClient:
    """An OAuth2 client. record: the application's record of it. browser: the browser that the
    client redirects to the application. server: sends the client's own requests, so it has no
    session."""

    record: Any
    secret: str
    browser: Client = field(default_factory=Client)
    server: Client = field(default_factory=Client)

    def authorize(self, browser: Client | None = None, **query: str) -> Any:
        """Opens the authorization page. query: parameters with other values; empty ones are left
        out."""
        parameters = {
            "client_id": self.record.client_id,
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "state": "some-state",
        } | query
        given_parameters = {key: value for key, value in parameters.items() if value}
        return (browser or self.browser).get("/oauth2/authorize/", given_parameters)

    def consent(self, **changed: str) -> Any:
        """Submits the consent form. changed: form fields with other values."""
        fields = {
            "client_id": self.record.client_id,
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "state": "some-state",
            "scope": SCOPE_USER_READ,
            "allow": "Authorize",
        } | changed
        return self.browser.post("/oauth2/authorize/", fields)

    def code(self, **query: str) -> str:
        """Obtains an authorization code for the learner who is signed in."""
        return answer_of(self.authorize(**query))["code"]

    def token(self, **data: str) -> Any:
        """Posts to the token endpoint, by default with the client's id and secret."""
        data = {
            "client_id": self.record.client_id,
            "client_secret": self.secret,
            "grant_type": "authorization_code",
            "redirect_uri": CALLBACK,
        } | data
        return self.server.post("/oauth2/token/", data)

    def exchange(self, **query: str) -> dict[str, Any]:
        """Obtains a code and exchanges it for tokens. Returns the token endpoint's answer."""
        answer = self.token(code=self.code(**query))
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    def refresh(self, refresh_token: str) -> Any:
        return self.token(grant_type="refresh_token", refresh_token=refresh_token, redirect_uri="")

    def revoke(self, token: str, **data: str) -> Any:
        data = {
            "client_id": self.record.client_id,
            "client_secret": self.secret,
            "token": token,
        } | data
        return self.server.post("/oauth2/revoke_token/", data)

    def me(self, access_token: str) -> Any:
        """Requests the profile of the learner who owns this access token."""
        return self.server.get("/api/users/me", headers={"Authorization": f"Bearer {access_token}"})


def answer_of(response: Any) -> dict[str, str]:
    """The query parameters of the redirect that answers an authorization request."""
    assert response.status_code == 302, response.content
    return {name: values[0] for name, values in parse_qs(urlsplit(response.url).query).items()}


def pkce_pair() -> tuple[str, str]:
    """A code verifier and its S256 challenge (RFC 7636 4.2)."""
    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).decode().rstrip("=")


def count_valid_tokens() -> tuple[int, int]:
    """The number of valid access tokens and refresh tokens."""
    return (
        AccessToken.objects.filter(expires__gt=timezone.now()).count(),
        RefreshToken.objects.filter(revoked__isnull=True).count(),
    )


@pytest.fixture
def learner(db: None) -> Any:
    """The learner ada, whose LMS account is named ada-at-lms."""
    return make_learner("ada")


@pytest.fixture
def make_client(db: None) -> Callable[..., OAuthClient]:
    """A function that creates an OAuth2 client. fields: arguments of ``ensure_client``."""

    def make(name: str = "edx-oauth-app", **fields: Any) -> OAuthClient:
        uris = fields.pop("redirect_uris", [CALLBACK])
        record, secret, _ = ensure_client(name, uris, **fields)
        return OAuthClient(record, secret)

    return make


@pytest.fixture
def lms(make_client: Callable[..., OAuthClient], learner: Any) -> OAuthClient:
    """The LMS's client, with the learner signed in at the application."""
    client = make_client()
    client.browser.force_login(learner)
    return client
