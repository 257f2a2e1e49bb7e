"""The Django apps that Usher is made of, and those that it stands on."""

INSTALLED_APPS = [
    "usher.application",
    "usher.application.provider",
    "usher.application.audit",
    "oauth2_provider",
    "rest_framework",
    "drf_spectacular",
]
