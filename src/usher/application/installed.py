"""Whether a project's settings have Usher's apps."""

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured


def require_installed(app: str, *, reason: str) -> None:
    """Raises ImproperlyConfigured if the project has not installed ``app``. Call this before a
    module imports the app's models: the error of that import would not name the cause. reason: what
    needs the app, as the start of the message."""
    if not apps.is_installed(app):
        raise ImproperlyConfigured(
            f"{reason}, but INSTALLED_APPS lacks {app}. Call defaults.apply(globals()) at the end "
            "of settings.py, after your own settings and `from usher.application import defaults`."
        )
