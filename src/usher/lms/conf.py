"""Usher's own settings inside the LMS, read in one place, with their defaults."""

from importlib import import_module
from types import ModuleType

from django.conf import settings


def platform() -> ModuleType:
    """The adapter module for the platform, named by the setting ``USHER_PLATFORM``."""
    return import_module(getattr(settings, "USHER_PLATFORM", "usher.lms.platform"))


def backends() -> dict[str, str]:
    """The setting ``USHER_BACKENDS``: {backend name of an application: backend class it uses}."""
    return getattr(settings, "USHER_BACKENDS", {})
