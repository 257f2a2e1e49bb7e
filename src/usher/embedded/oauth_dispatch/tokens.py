"""Tokens that the LMS issues without a grant."""

from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from oauth2_provider.settings import oauth2_settings
from oauthlib.oauth2.rfc6749.tokens import BearerToken


def issue(
    request: HttpRequest,
    user: User,
    client: Any,
    *,
    seconds: int | None = None,
    scopes: list[str] | None = None,
) -> dict[str, Any]:
    """Issue and store an access and a refresh token of ``client`` for ``user``. Returns them as the
    token endpoint does. seconds: lifetime of the access token; None for the default. scopes: None
    for no scopes.

    As on the platform, this sets ``request.user`` to ``user``.
    """
    generator = BearerToken(
        expires_in=seconds or oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS,
        request_validator=oauth2_settings.OAUTH2_VALIDATOR_CLASS(),
    )
    token_request: Any = request
    token_request.user, token_request.client, token_request.scopes = user, client, scopes or []
    token_request.state = token_request.refresh_token = token_request.extra_credentials = None
    token_request.grant_type = client.authorization_grant_type
    token: dict[str, Any] = generator.create_token(token_request, refresh_token=True)
    generator.request_validator.save_token(token, token_request)
    return token
