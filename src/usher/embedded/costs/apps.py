from django.apps import AppConfig


class CostsConfig(AppConfig):
    """The platform's forum roles, history and preferences, as far as they cost something."""

    name = "usher.embedded.costs"
    label = "platform_costs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usher.embedded.costs import receivers

        receivers.connect()
