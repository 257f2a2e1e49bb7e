from django.apps import AppConfig


class ProviderConfig(AppConfig):
    name = "usher.application.provider"
    label = "usher_provider"
    verbose_name = "OAuth2 provider"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.application.provider.signout import signals  # noqa: F401 - connects receivers
