"""Enables third-party sign-in at start, before any plugin's ``ready``."""

from django.apps import AppConfig
from django.conf import settings


class ThirdPartyAuthConfig(AppConfig):
    """The platform's ``third_party_auth``."""

    name = "usher.embedded.third_party_auth"
    label = "third_party_auth"
    verbose_name = "Third-party Authentication"

    def ready(self) -> None:
        if settings.FEATURES.get("ENABLE_THIRD_PARTY_AUTH"):
            from usher.embedded.third_party_auth.switch import apply_settings

            apply_settings(settings)
