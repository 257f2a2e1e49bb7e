from django.apps import AppConfig


class CertificatesConfig(AppConfig):
    """The platform's ``certificates``."""

    name = "usher.embedded.certificates"
    label = "certificates"
