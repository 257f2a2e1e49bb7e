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
    """An access and a refresh token of ``client`` for ``user``, stored; the toolkit's answer.

    The request counts as the user's from here on, as the platform has it.
    """
    generator = BearerToken(
        expires_in=seconds or oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS,
        request_validator=oauth2_settings.OAUTH2_VALIDATOR_CLASS(),
    )
    asked: Any = request
    asked.user, asked.client, asked.scopes = user, client, scopes or []
    asked.state = asked.refresh_token = asked.extra_credentials = None
    asked.grant_type = client.authorization_grant_type
    token: dict[str, Any] = generator.create_token(asked, refresh_token=True)
    generator.request_validator.save_token(token, asked)
    return token
