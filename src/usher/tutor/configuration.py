"""Names and defaults of the plugin's configuration (``config.yml``)."""

import secrets
from typing import Any

from usher.contract import description

#: Secrets that are generated once and saved in config.yml. Other values would break the connection.
UNIQUE: dict[str, str] = {
    "USHER_SECRET": secrets.token_hex(32),
    "USHER_SERVICE_WORKER_TOKEN": secrets.token_hex(32),
}

DEFAULTS: dict[str, Any] = {
    **description.DEFAULTS,
    "USHER_APPLICATIONS": [{"name": "mitxonline"}],
    "USHER_AUTHN_MICROFRONTEND": False,
    "USHER_HOST_ALIASES": [],
    "USHER_REQUIREMENT": "",
    # Installed without their dependencies, which the platform pins.
    "USHER_BACKEND_REQUIREMENTS": ["social-auth-mitxpro==0.7.1", "ol-social-auth==0.3.0"],
}
