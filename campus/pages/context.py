"""Variables of every template."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, Any]:
    """Context processor: the site's name, its edition and the address of its support, for
    all templates."""
    return {
        "site_name": settings.SITE_NAME,
        "edition": settings.EDITION_NAME,
        "support_email": settings.SUPPORT_EMAIL,
    }
