from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Pages for people: dashboard, courses, errors. No tables."""

    name = "usher.embedded.pages"
    label = "embedded_pages"
