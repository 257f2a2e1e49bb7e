import sys

from django.apps import AppConfig

from usher.application.installed import require_installed


class UsherConfig(AppConfig):
    name = "usher.application"
    label = "usher"
    verbose_name = "Open edX"
    default_auto_field = "django.db.models.BigAutoField"

    def import_models(self) -> None:
        # Not in ``ready``: the admin imports the models of oauth2_provider before that.
        require_installed("oauth2_provider", reason="usher.application needs the OAuth2 provider")
        super().import_models()

    def ready(self) -> None:
        from usher.application.accounts import signals
        from usher.application.checks import register  # noqa: F401 - registers the checks
        from usher.application.lms.refusals import RefusalLog
        from usher.application.metrics.engine import MetricsCounter
        from usher.application.reconcilers import register as register_kinds
        from usher.application.signals import SignalSender
        from usher.engine import observers

        signals.connect()
        register_kinds()
        observers.add(SignalSender())
        observers.add(MetricsCounter())
        observers.add(RefusalLog())
        if "celery" in sys.modules:
            # Celery discards messages for tasks that are not registered.
            from usher.application import tasks  # noqa: F401 - registers the tasks
