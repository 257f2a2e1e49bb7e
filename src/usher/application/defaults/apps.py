"""The Django apps that Usher is made of, those that it stands on, and its middleware."""

INSTALLED_APPS = [
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
