from django.apps import AppConfig


class EngineConfig(AppConfig):
    name = "usher.engine"
    label = "usher_engine"
    verbose_name = "Usher's engine"
    default_auto_field = "django.db.models.BigAutoField"
