from django.apps import AppConfig


class VerifyStudentConfig(AppConfig):
    """The platform's ``verify_student``."""

    name = "usher.embedded.verify_student"
    label = "verify_student"
