"""Reads a backend's settings from its provider record first."""

from typing import Any

from social_core.backends.oauth import OAuthAuth
from social_django.strategy import DjangoStrategy

from usher.embedded.third_party_auth import registry
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig


class DisabledProviderError(Exception):
    """The record of the backend is disabled, missing, or belongs to another site."""


class ConfigurationModelStrategy(DjangoStrategy):
    """Makes python-social-auth read a backend's settings from its provider record."""

    def setting(self, name: str, default: Any = None, backend: Any = None) -> Any:
        """The value in the backend's provider record, else in Django's settings, else ``default``.
        Raises DisabledProviderError for a backend that the current site may not use."""
        if isinstance(backend, OAuthAuth):
            record = OAuth2ProviderConfig.current(backend.name)
            if not record.enabled_for_current_site:
                raise DisabledProviderError("Can't fetch setting of a disabled backend/provider.")
            try:
                return record.get_setting(name)
            except KeyError:
                # Without this address in the record, the platform redirects to "None?client_id=…",
                # because its release of social-auth-core formats None as text. Newer releases fail.
                if name == "AUTHORIZATION_URL":
                    return "None"
        if name == "MAX_SESSION_LENGTH" and self.request is not None:
            provider = registry.provider_of_running_pipeline(self.request)
            if provider is not None:
                return provider.max_session_length
        return super().setting(name, default, backend)
