"""Mints learners' tokens for the application's OAuth client."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone
from oauth2_provider.models import (
    get_access_token_model,
    get_application_model,
    get_refresh_token_model,
)
from oauth2_provider.settings import oauth2_settings
from oauthlib.common import generate_token

from usher.lms.bulk import save_new

#: The scope of tokens that the authorization code flow issues when no scope is requested.
SCOPE = "read write"
#: Characters of a token, far more than anybody can guess.
TOKEN_LENGTH = 40


class Tokens(dict[str, Any]):
    """A user's tokens, in the token endpoint's format: ``access_token``, ``refresh_token``,
    ``expires_in`` (seconds), ``scope``. row: primary key of the refresh token."""

    row: int


def mint_tokens(users: list[Any], client_id: str) -> list[Tokens]:
    """Save an access and a refresh token for each user; return the tokens in the users' order.

    Access tokens live as long as those of the LMS's token endpoint.
    """
    if not users:
        return []
    client = get_application_model().objects.get(client_id=client_id)
    lifetime = oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS
    expires = timezone.now() + timedelta(seconds=lifetime)
    access_tokens = [
        get_access_token_model()(
            user=user, application=client, token=_token(), expires=expires, scope=SCOPE
        )
        for user in users
    ]
    save_new(access_tokens, unique_fields=[_unique_column(access_tokens[0])])
    refresh_tokens = [_refresh_token(access, client) for access in access_tokens]
    save_new(refresh_tokens, unique_fields=["access_token_id"])
    return [
        _tokens(access, refresh, lifetime)
        for access, refresh in zip(access_tokens, refresh_tokens, strict=True)
    ]


def _tokens(access: Any, refresh: Any, lifetime: int) -> Tokens:
    tokens = Tokens(
        access_token=access.token,
        refresh_token=refresh.token,
        expires_in=lifetime,
        scope=SCOPE,
    )
    tokens.row = refresh.pk
    return tokens


def _refresh_token(access: Any, client: Any) -> Any:
    """An unsaved refresh token for this access token."""
    model = get_refresh_token_model()
    row = model(user=access.user, application=client, token=_token(), access_token=access)
    if any(field.name == "token_family" for field in model._meta.get_fields()):
        # Newer releases revoke a whole family when a refresh token is used twice.
        row.token_family = uuid.uuid4()
    return row


def _token() -> str:
    """A random token from the generator that the OAuth toolkit uses."""
    return generate_token(TOKEN_LENGTH)


def _unique_column(token: Any) -> str:
    """The unique column of access tokens: newer releases of the toolkit index a checksum."""
    columns = {field.name for field in token._meta.get_fields()}
    return "token_checksum" if "token_checksum" in columns else "token"
