from django.apps import AppConfig


class UserApiConfig(AppConfig):
    """The platform's ``user_api``."""

    name = "usher.embedded.user_api"
    label = "user_api"
