from django.apps import AppConfig


class CostsConfig(AppConfig):
    """Forum roles, history and preferences of the platform, for their database load."""

    name = "usher.embedded.costs"
    label = "platform_costs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.embedded.costs import receivers

        receivers.connect()
