from django.apps import AppConfig


class PlatformLoadConfig(AppConfig):
    """Runs the same statements as the platform's receivers (forum roles, history, preferences), so
    that measurements include them."""

    name = "usher.embedded.platform_load"
    label = "platform_costs"  # as the setting that enables this app
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.embedded.platform_load import receivers

        receivers.connect()
