"""Scopes that an application may request: the defaults, and those in its ApplicationAccess."""

from typing import Any

from oauth2_provider.scopes import SettingsScopes

from usher.embedded.oauth_dispatch.models import ApplicationAccess


class ApplicationModelScopes(SettingsScopes):
    """Gives each application the default scopes and those of its ``ApplicationAccess``."""

    def get_available_scopes(
        self, application: Any = None, request: Any = None, *args: Any, **kwargs: Any
    ) -> set[str]:
        granted = ApplicationAccess.scopes_of(application) if application else []
        available = {*granted, *self.get_default_scopes()}
        return available & set(self.get_all_scopes())

    def has_user_id(self, application: Any) -> bool:
        return "user_id" in ApplicationAccess.scopes_of(application)
