"""Exempts the service worker from the platform's rate limits.

Repairing a hundred learners takes a hundred registrations from one address, and syncing many
course runs takes many pages of the course list. The platform would refuse both as abuse.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import timezone

from usher.lms import conf
from usher.lms.settings.apply import DEFAULT_REGISTRATION_RATE

#: MITx Online and MIT xPro send their registration token in this header; if the token is the
#: service worker's access token, the service worker sent the registration.
REGISTRATION_TOKEN_HEADER = "X-Access-Token"  # noqa: S105 - a name


def registration_rate(group: str, request: Any) -> str | None:
    """The rate for django-ratelimit, e.g. ``60/7d``; None for no limit. The setting
    ``REGISTRATION_RATELIMIT`` names this function, which is why it has ``group``, unused here."""
    if token := presented_token(request):
        from usher.lms.connections.services import is_service_worker_token

        if is_service_worker_token(token, timezone.now()):
            return None
    return getattr(settings, "USHER_REGISTRATION_RATELIMIT", DEFAULT_REGISTRATION_RATE)


def presented_token(request: Any) -> str:
    """The token in ``Authorization: Bearer`` (or ``JWT``) or in the registration header, or ''."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() in ("bearer", "jwt") and token:
        return token.strip()
    return request.headers.get(REGISTRATION_TOKEN_HEADER, "").strip()


def install() -> None:
    """Exempt the service worker from the request throttles of the platform's APIs."""
    for view in conf.platform().throttled_views():
        view.throttle_classes = [
            exempt_service_worker(throttle) for throttle in view.throttle_classes
        ]


def exempt_service_worker(throttle: type[Any]) -> type[Any]:
    """A subclass of ``throttle`` that does not limit the service worker."""
    if issubclass(throttle, ServiceWorkerExemption):
        return throttle
    return type(throttle.__name__, (ServiceWorkerExemption, throttle), {})


class ServiceWorkerExemption:
    """Mixin for a REST framework throttle: allows every request of the service worker."""

    def allow_request(self, request: Any, view: Any) -> bool:
        from usher.lms.connections.services import is_service_worker

        return is_service_worker(request.user) or super().allow_request(request, view)  # type: ignore[misc]
