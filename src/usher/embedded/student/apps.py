from django.apps import AppConfig


class StudentConfig(AppConfig):
    """The platform's ``student``."""

    name = "usher.embedded.student"
    label = "student"
