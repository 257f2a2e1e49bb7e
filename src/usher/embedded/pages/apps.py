from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Pages that people see: dashboard, courses, errors. No tables."""

    name = "usher.embedded.pages"
    label = "embedded_pages"
