from django.apps import AppConfig


class OAuthDispatchConfig(AppConfig):
    """The platform's ``oauth_dispatch``."""

    name = "usher.embedded.oauth_dispatch"
    label = "oauth_dispatch"
