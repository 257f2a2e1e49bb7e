from django.apps import AppConfig


class HomeConfig(AppConfig):
    """Commands that create and fill an LMS. No tables."""

    name = "usher.embedded.home"
    label = "embedded_home"
