import sys

from django.apps import AppConfig


class UsherConfig(AppConfig):
    name = "usher.application"
    label = "usher"
    verbose_name = "Open edX"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.application.accounts import signals
        from usher.application.checks import register  # noqa: F401 - registers the checks

        signals.connect()
        if "celery" in sys.modules:
            # A worker without the tasks would discard their messages without an error.
            from usher.application import tasks  # noqa: F401 - registers them
