"""Settings of the plugin for the platform's ``common`` settings.

The platform reads ``lms.env.yml`` later, so these settings are defaults that it overrides.
"""

from typing import Any

from usher.lms.settings.apply import set_defaults


def plugin_settings(settings: Any) -> None:
    set_defaults(settings)
