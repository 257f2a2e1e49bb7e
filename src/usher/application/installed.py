"""Whether a project's settings have Usher's apps."""

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured


def require(app: str, *, by: str) -> None:
    """Raises ImproperlyConfigured if the project lacks ``app``. Call it before a model is imported,
    whose own error would not name the cause. by: the start of the message: what needs the app."""
    if not apps.is_installed(app):
        raise ImproperlyConfigured(
            f"{by}, but INSTALLED_APPS lacks {app}. Call "
            "defaults.apply(globals()) at the end of settings.py, after all that you set yourself."
        )
