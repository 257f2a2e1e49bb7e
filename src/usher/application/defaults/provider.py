"""The OAuth2 provider, password hashers and the REST API."""

from typing import Any

from usher.contract.oauth import SCOPE_USER_READ

#: The hasher for client secrets.
KEYED_HASHER = "usher.application.provider.hashers.KeyedSecretHasher"

#: Django's default for ``PASSWORD_HASHERS``.
_DJANGO_HASHERS = (
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.BCryptSHA256PasswordHasher",
    "django.contrib.auth.hashers.ScryptPasswordHasher",
)

#: Scope → what a client with this scope may do.
SCOPES = {
    SCOPE_USER_READ: "Read your username, full name and e-mail address",
    "openid": "Sign you in",
    "profile": "Read your username and full name",
    "email": "Read your e-mail address",
}


def password_hashers(hashers: tuple[str, ...] | list[str] = _DJANGO_HASHERS) -> list[str]:
    """``PASSWORD_HASHERS`` with the hasher for client secrets last: passwords are hashed with the
    first."""
    return [*hashers, KEYED_HASHER]


def oauth2_provider(
    *, issuer: str = "", rsa_private_key: str = "", https_only: bool = False, **overrides: Any
) -> dict[str, Any]:
    """``OAUTH2_PROVIDER``.

    issuer: ``https://host/oauth2``, where discovery is served; '' derives the issuer from each
    request. rsa_private_key: PEM; it signs ID tokens and sign-out messages. https_only: refuse
    redirect URIs that are not https. overrides: further options of the OAuth toolkit.
    """
    settings: dict[str, Any] = {
        "SCOPES": SCOPES,
        "DEFAULT_SCOPES": [SCOPE_USER_READ],
        "OAUTH2_VALIDATOR_CLASS": "usher.application.provider.validator.UsherValidator",
        "CLIENT_SECRET_HASHER": "usher_keyed",
        "OIDC_ENABLED": True,
        "OIDC_ISS_ENDPOINT": issuer,
        "OIDC_RSA_PRIVATE_KEY": rsa_private_key,
        "OIDC_RESPONSE_TYPES_SUPPORTED": ["code"],
        "OAUTH2_RESPONSE_TYPES_SUPPORTED": ["code"],
        "OAUTH2_GRANT_TYPES_SUPPORTED": ["authorization_code", "refresh_token"],
        "ALLOWED_REDIRECT_URI_SCHEMES": ["https"] if https_only else ["http", "https"],
        "AUTHORIZATION_CODE_EXPIRE_SECONDS": 60,
        "ACCESS_TOKEN_EXPIRE_SECONDS": 36000,
        "REFRESH_TOKEN_EXPIRE_SECONDS": 30 * 86400,
        "ID_TOKEN_EXPIRE_SECONDS": 600,
        "ROTATE_REFRESH_TOKEN": True,
        "REFRESH_TOKEN_REUSE_PROTECTION": True,
        "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
        "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
        "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
        "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
        "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
        "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
        "COMPLIANT_BCP_RFC9700_REFRESH_TOKEN": True,
        "COMPLIANT_BCP_RFC9700_REDIRECT_URI_MATCHING": True,
    }
    return settings | overrides


def rest_framework() -> dict[str, Any]:
    """``REST_FRAMEWORK`` for ``/api/v1/``: signed-in users only, JSON only."""
    return {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
        "DEFAULT_PAGINATION_CLASS": "usher.application.api.pagination.Pages",
        "PAGE_SIZE": 50,
    }
