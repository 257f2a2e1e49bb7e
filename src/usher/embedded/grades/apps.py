from django.apps import AppConfig


class GradesConfig(AppConfig):
    """The platform's ``grades``."""

    name = "usher.embedded.grades"
    label = "grades"
