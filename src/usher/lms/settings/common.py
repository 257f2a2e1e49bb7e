"""Settings of the plugin for the platform's ``common`` settings.

``lms.env.yml`` is not read yet here, so there are only defaults for it to override.
"""

from typing import Any

from usher.lms.settings.apply import set_defaults


def plugin_settings(settings: Any) -> None:
    set_defaults(settings)
