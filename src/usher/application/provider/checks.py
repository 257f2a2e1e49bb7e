"""Names at start what is missing or malformed in the settings, all at once."""

from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as WarningMessage

from usher.application import conf


@register("usher")
def settings_are_right(**_: Any) -> list[CheckMessage]:
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
    if "usher.application.provider.hashers.KeyedSecretHasher" not in (
        django_settings.PASSWORD_HASHERS
    ):
        found.append(
            Error(
                "PASSWORD_HASHERS lacks the hasher of client secrets.",
                hint="PASSWORD_HASHERS = usher.application.defaults.password_hashers()",
                id="usher.E002",
            )
        )
    elif django_settings.PASSWORD_HASHERS[0].endswith("KeyedSecretHasher"):
        found.append(
            Error(
                "PASSWORD_HASHERS begins with the hasher of client secrets, so people's passwords "
                "would be hashed with it.",
                hint="Put a password hasher first.",
                id="usher.E003",
            )
        )
    return found
