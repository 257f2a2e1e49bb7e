from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "usher.console"
    label = "usher_console"
    verbose_name = "Open edX console"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.application import retention
        from usher.console.digest.services import Digest
        from usher.console.recording.services import forget_old, recorder
        from usher.engine import observers

        observers.add(recorder)
        observers.add(Digest())
        retention.register("console", forget_old)
