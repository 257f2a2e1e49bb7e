"""Learners' tokens, minted for the application's own OAuth client."""

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

#: What the application gets when it walks the authorization code flow without naming scopes.
SCOPE = "read write"
TOKEN_LENGTH = 40


def mint_tokens(users: list[Any], client_id: str) -> list[dict[str, Any]]:
    """An access and a refresh token for each user, as the token endpoint would answer them, in
    order. Access tokens end when the LMS's own do."""
    if not users:
        return []
    client = get_application_model().objects.get(client_id=client_id)
    lifetime = oauth2_settings.ACCESS_TOKEN_EXPIRE_SECONDS
    expires = timezone.now() + timedelta(seconds=lifetime)
    access = [
        get_access_token_model()(
            user=user, application=client, token=_token(), expires=expires, scope=SCOPE
        )
        for user in users
    ]
    save_new(access, found_by=[_unique_column(access[0])])
    refresh = [_refresh_token(row, client) for row in access]
    save_new(refresh, found_by=["access_token_id"])
    return [
        {
            "access_token": row.token,
            "refresh_token": second.token,
            "expires_in": lifetime,
            "scope": SCOPE,
        }
        for row, second in zip(access, refresh, strict=True)
    ]


def _refresh_token(access: Any, client: Any) -> Any:
    model = get_refresh_token_model()
    row = model(user=access.user, application=client, token=_token(), access_token=access)
    if any(field.name == "token_family" for field in model._meta.get_fields()):
        # Newer releases revoke a whole family when a refresh token is used twice.
        row.token_family = uuid.uuid4()
    return row


def _token() -> str:
    """As random as the toolkit's own, from the same generator."""
    return generate_token(TOKEN_LENGTH)


def _unique_column(token: Any) -> str:
    """Newer releases of the toolkit have a checksum, and no index of the token itself."""
    columns = {field.name for field in token._meta.get_fields()}
    return "token_checksum" if "token_checksum" in columns else "token"
