"""Names and defaults of the plugin's configuration (``config.yml``)."""

import secrets
from typing import Any

#: Saved in config.yml the first time, then never changed: new values would cut the connection.
UNIQUE: dict[str, str] = {
    "USHER_SECRET": secrets.token_hex(32),
    "USHER_SERVICE_WORKER_TOKEN": secrets.token_hex(32),
}

DEFAULTS: dict[str, Any] = {
    "USHER_APPLICATIONS": [{"name": "mitxonline"}],
    "USHER_SIGN_IN": True,
    "USHER_AUTHN_MICROFRONTEND": False,
    "USHER_DEFAULT_APPLICATION": "",
    "USHER_REDIRECT_ANONYMOUS": False,
    "USHER_DIRECT_REGISTRATION": False,
    "USHER_ANONYMOUS_PATHS": [],
    "USHER_SERVICE_WORKER_USERNAME": "mit_Application_serviceworker",
    "USHER_SERVICE_WORKER_EMAIL": "mit_application_serviceworker@example.org",
    "USHER_SUPERUSER_USERNAME": "",
    "USHER_SUPERUSER_EMAIL": "",
    "USHER_SUPERUSER_APPLICATION": "",
    "USHER_HOST_ALIASES": [],
    "USHER_REQUIREMENT": "",
    # Installed without their dependencies: the platform has them, and its pins win.
    "USHER_BACKEND_REQUIREMENTS": ["social-auth-mitxpro==0.7.1", "ol-social-auth==0.3.0"],
}
