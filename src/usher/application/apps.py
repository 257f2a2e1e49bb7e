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
        from usher.application.engine import observers
        from usher.application.engine.refusals import RefusalLog
        from usher.application.metrics.engine import Counting

        signals.connect()
        observers.add(Counting())
        observers.add(RefusalLog())
        if "celery" in sys.modules:
            # A worker without the tasks would discard their messages without an error.
            from usher.application import tasks  # noqa: F401 - registers them
