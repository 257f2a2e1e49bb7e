"""JSON Web Tokens in place of the OAuth toolkit's opaque tokens."""

import json
import time
from functools import cache
from typing import Any

import jwt
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from oauth2_provider.models import get_access_token_model

from usher.embedded.oauth_dispatch.models import ApplicationAccess, RestrictedApplication
from usher.embedded.student.models import anonymous_id_for_user

ACCESS_TOKEN_SECONDS = 3600


def _profile_claims(user: User) -> dict[str, Any]:
    try:
        name = user.profile.name
    except ObjectDoesNotExist:
        name = None
    return {
        "name": name,
        "family_name": user.last_name,
        "given_name": user.first_name,
        "administrator": user.is_staff,
        "superuser": user.is_superuser,
    }


def _filters(application: Any) -> list[str]:
    """The token's filters. ``user:me`` restricts a user's token to the user's own data; tokens of
    the client credentials grant lack this filter."""
    access = ApplicationAccess.objects.filter(application=application).first()
    filters = list(access.filters or []) if access else []
    if application.authorization_grant_type != application.GRANT_CLIENT_CREDENTIALS:
        filters.append("user:me")
    return filters


@cache
def _private_key(jwk: str, algorithm: str) -> Any:
    """The loaded private key, cached: loading checks the key, which takes far longer than
    signing."""
    return jwt.PyJWK(json.loads(jwk), algorithm).key


def _sign(claims: dict[str, Any], *, asymmetric: bool) -> str:
    """The JSON Web Token. asymmetric: sign with the private key, not the shared secret."""
    jwt_settings = settings.JWT_AUTH
    if not asymmetric:
        return jwt.encode(
            claims, jwt_settings["JWT_SECRET_KEY"], algorithm=jwt_settings["JWT_ALGORITHM"]
        )
    algorithm = jwt_settings["JWT_SIGNING_ALGORITHM"]
    key = _private_key(jwt_settings["JWT_PRIVATE_SIGNING_JWK"], algorithm)
    return jwt.encode(claims, key, algorithm=algorithm)


def replace_access_token(token: dict[str, Any], asymmetric: bool = False) -> dict[str, Any]:
    """An answer of the token endpoint with a JSON Web Token in place of the opaque access token.

    token: the toolkit's answer. asymmetric: sign with the private key, not the shared secret.
    """
    record = (
        get_access_token_model()
        .objects.select_related("user", "application")
        .get(token=token["access_token"])
    )
    application, user = record.application, record.user
    restricted = RestrictedApplication.objects.filter(application=application).exists()
    # As on the platform: two default scopes, and the user's id with the password grant.
    scopes = token["scope"].split() or ["email", "profile"]
    if application.authorization_grant_type == application.GRANT_PASSWORD:
        scopes = list(dict.fromkeys([*scopes, "user_id"]))
    seconds = ACCESS_TOKEN_SECONDS
    now = int(time.time())
    claims = {
        "aud": settings.JWT_AUTH["JWT_AUDIENCE"],
        "exp": now + seconds,
        "grant_type": application.authorization_grant_type,
        "iat": now,
        "iss": settings.JWT_AUTH["JWT_ISSUER"],
        "preferred_username": user.username,
        "scopes": scopes,
        "version": settings.JWT_AUTH["JWT_SUPPORTED_VERSION"],
        "sub": anonymous_id_for_user(user),
        "filters": _filters(application),
        "is_restricted": restricted,
        "email_verified": user.is_active,
    }
    if "user_id" in scopes:
        claims["user_id"] = user.pk
    if "email" in scopes:
        claims["email"] = user.email
    if "profile" in scopes:
        claims |= _profile_claims(user)
    return {
        **token,
        # As on the platform, a restricted application's tokens have the asymmetric signature.
        "access_token": _sign(claims, asymmetric=asymmetric or restricted),
        "token_type": "JWT",
        "expires_in": seconds,
        "scope": " ".join(scopes),
    }
