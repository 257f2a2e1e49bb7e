from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "usher.application.audit"
    label = "usher_audit"
    verbose_name = "Audit log"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.application.audit import signals  # noqa: F401 - connects the receivers
