"""Settings of a project that adds Usher. At the end of ``settings.py``:

    from usher.application import defaults

    defaults.apply(globals())

Pure Python: this package is imported while Django's settings are being read.
"""

from usher.application.defaults.apps import INSTALLED_APPS, MIDDLEWARE
from usher.application.defaults.celery import beat_schedule, celery
from usher.application.defaults.database import sqlite_options
from usher.application.defaults.project import apply
from usher.application.defaults.provider import (
    KEYED_HASHER,
    SCOPES,
    oauth2_provider,
    password_hashers,
    rest_framework,
)

__all__ = [
    "INSTALLED_APPS",
    "KEYED_HASHER",
    "MIDDLEWARE",
    "SCOPES",
    "apply",
    "beat_schedule",
    "celery",
    "oauth2_provider",
    "password_hashers",
    "rest_framework",
    "sqlite_options",
]
