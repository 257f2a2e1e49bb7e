"""Usher's own settings inside the LMS, read in one place, with their defaults."""

from importlib import import_module
from types import ModuleType

from django.conf import settings


def platform() -> ModuleType:
    """The module that stands for the platform: ``USHER_PLATFORM``."""
    return import_module(getattr(settings, "USHER_PLATFORM", "usher.lms.platform"))


def backends() -> dict[str, str]:
    """Backend name of each application and the backend it behaves as: ``USHER_BACKENDS``."""
    return getattr(settings, "USHER_BACKENDS", {})
