"""Names at start what is missing or malformed in the settings, all at once."""

from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as WarningMessage
from oauth2_provider.settings import oauth2_settings
from oauth2_provider.utils import jwk_from_pem

from usher.application import conf


@register("usher")
def settings_are_right(**_: Any) -> list[CheckMessage]:
    return [*_connection(), *_secret_hasher(), *_signing_key()]


def _connection() -> list[CheckMessage]:
    _found, problems = conf.read(django_settings)
    found: list[CheckMessage] = [Error(problem, id="usher.E001") for problem in problems]
    if missing := conf.missing():
        found.append(
            WarningMessage(
                f"Not connected to an LMS yet: {', '.join(missing)} not set.",
                hint="Run `usher connect`, or write them in the .env file.",
                id="usher.W001",
            )
        )
    return found


def _secret_hasher() -> list[CheckMessage]:
    hashers = django_settings.PASSWORD_HASHERS
    if "usher.application.provider.hashers.KeyedSecretHasher" not in hashers:
        return [
            Error(
                "PASSWORD_HASHERS lacks the hasher of client secrets.",
                hint="PASSWORD_HASHERS = usher.application.defaults.password_hashers()",
                id="usher.E002",
            )
        ]
    if hashers[0].endswith("KeyedSecretHasher"):
        return [
            Error(
                "PASSWORD_HASHERS begins with the hasher of client secrets, so people's passwords "
                "would be hashed with it.",
                hint="Put a password hasher first.",
                id="usher.E003",
            )
        ]
    return []


def _signing_key() -> list[CheckMessage]:
    name, hint = "OAUTH2_PROVIDER['OIDC_RSA_PRIVATE_KEY']", "Make one with `openssl genrsa 2048`."
    pem = oauth2_settings.OIDC_RSA_PRIVATE_KEY
    if not pem:
        missing = f"{name} is not set: the LMS is not told when somebody signs out."
        return [WarningMessage(missing, hint=hint, id="usher.W002")]
    try:
        jwk_from_pem(pem)
    except ValueError:
        malformed = f"{name} is not a private key in PEM: nothing can be signed with it."
        return [Error(malformed, hint=hint, id="usher.E004")]
    return []
