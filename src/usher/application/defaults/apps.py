"""Usher's Django apps and middleware, and the apps that Usher needs."""

INSTALLED_APPS = [
    "usher",
    "usher.engine",
    "usher.application",
    "usher.application.provider",
    "usher.application.audit",
    "usher.console",
    "oauth2_provider",
    "rest_framework",
    "drf_spectacular",
]

MIDDLEWARE = ["usher.application.provider.signout.middleware.KnownSessions"]
