"""Settings of the plugin for the platform's ``devstack`` settings."""

from typing import Any

from usher.lms.settings.apply import apply


def plugin_settings(settings: Any) -> None:
    apply(settings)
