import sys

from django.apps import AppConfig

from usher.application.installed import require


class UsherConfig(AppConfig):
    name = "usher.application"
    label = "usher"
    verbose_name = "Open edX"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        # Here, because the admin imports the toolkit's models before any app is ready.
        require("oauth2_provider", by="usher.application needs the OAuth2 provider")
        super().import_models()

    def ready(self) -> None:
        from usher.application.accounts import signals
        from usher.application.checks import register  # noqa: F401 - registers the checks
        from usher.application.lms.refusals import RefusalLog
        from usher.application.metrics.engine import Counting
        from usher.application.reconcilers import register as register_kinds
        from usher.application.signals import Announcing
        from usher.engine import observers

        signals.connect()
        register_kinds()
        observers.add(Announcing())
        observers.add(Counting())
        observers.add(RefusalLog())
        if "celery" in sys.modules:
            # A worker without the tasks would discard their messages without an error.
            from usher.application import tasks  # noqa: F401 - registers them
