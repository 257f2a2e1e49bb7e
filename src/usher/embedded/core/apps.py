from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Code that all apps of the embedded LMS share. No tables."""

    name = "usher.embedded.core"
    label = "embedded_core"
