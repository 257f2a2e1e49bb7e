"""URLs of profile images, which are always the default ones: images can't be uploaded."""

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest


def profile_image_urls(user: User, request: HttpRequest | None = None) -> dict[str, str]:
    """Name of a size → URL, which is absolute if ``request`` is given."""
    urls = {
        name: f"{settings.STATIC_URL}default_{size}.png"
        for name, size in settings.PROFILE_IMAGE_SIZES_MAP.items()
    }
    if request is None:
        return urls
    return {name: request.build_absolute_uri(url) for name, url in urls.items()}
