from django.apps import AppConfig


class BulkEmailConfig(AppConfig):
    """The platform's ``bulk_email``."""

    name = "usher.embedded.bulk_email"
    label = "bulk_email"
