from django.apps import AppConfig


class LtiProviderConfig(AppConfig):
    """The platform's ``lti_provider``."""

    name = "usher.embedded.lti_provider"
    label = "lti_provider"
