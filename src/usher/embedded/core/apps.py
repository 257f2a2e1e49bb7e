from django.apps import AppConfig


class CoreConfig(AppConfig):
    """What all apps of the embedded LMS share; no tables."""

    name = "usher.embedded.core"
    label = "embedded_core"
