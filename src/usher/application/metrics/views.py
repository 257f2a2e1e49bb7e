"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from hmac import compare_digest
from ipaddress import ip_address, ip_network

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from oauth2_provider.utils import parse_bearer_token
from prometheus_client.exposition import choose_encoder

from usher.application.audit.services import client_address
from usher.application.metrics.collector import registry
from usher.application.metrics.recorder import recorder

#: Headers that proxies set. A request with one of these headers came through a proxy, so the
#: connection's address is not the client's.
_FORWARDED = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
_TEXT_IF_OFF = (
    "Metrics are off. Set USHER_METRICS_TOKEN, and have Prometheus send it as a bearer token, or "
    "USHER_METRICS_NETWORKS to the networks that may read them.\n"
)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answers requests with ``USHER_METRICS_TOKEN`` as their bearer token, and requests from one of
    ``USHER_METRICS_NETWORKS``. Else answers 401 for a wrong or missing token, and 403 if no token
    is set."""
    token, networks = _token(), networks_of_settings()
    if not token and not networks:
        return HttpResponse(_TEXT_IF_OFF, status=403, content_type="text/plain")
    if not (_has_token(request, token) or _is_from_network(request, networks)):
        if not token:
            return HttpResponse(
                "Your address is not in USHER_METRICS_NETWORKS.\n",
                status=403,
                content_type="text/plain",
            )
        return HttpResponse(
            "Send USHER_METRICS_TOKEN as a bearer token.\n",
            status=401,
            content_type="text/plain",
            headers={"WWW-Authenticate": 'Bearer realm="metrics"'},
        )
    recorder.flush()
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry()), content_type=content_type)


def _token() -> str:
    return str(getattr(django_settings, "USHER_METRICS_TOKEN", "") or "")


def networks_of_settings() -> list[str]:
    """The networks in ``USHER_METRICS_NETWORKS``, which is a list or a text with commas."""
    networks = getattr(django_settings, "USHER_METRICS_NETWORKS", ()) or ()
    return networks.replace(",", " ").split() if isinstance(networks, str) else list(networks)


def _has_token(request: HttpRequest, token: str) -> bool:
    presented = parse_bearer_token(request.META.get("HTTP_AUTHORIZATION")) or ""
    return bool(token) and compare_digest(token.encode(), presented.encode("utf-8", "replace"))


def _is_from_network(request: HttpRequest, networks: list[str]) -> bool:
    """Whether the request comes from one of the networks. Uses the same address as the audit log.
    Always False for a request through a proxy if ``USHER_CLIENT_ADDRESS_HEADER`` is not set, since
    the address would be the proxy's."""
    if not networks:
        return False
    header = str(getattr(django_settings, "USHER_CLIENT_ADDRESS_HEADER", "") or "")
    if not header and any(name in request.headers for name in _FORWARDED):
        return False
    address_text = client_address(request)
    if address_text is None:
        return False
    address = ip_address(address_text)
    address = getattr(address, "ipv4_mapped", None) or address
    try:
        return any(address in ip_network(network, strict=False) for network in networks)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"USHER_METRICS_NETWORKS: {error}; write networks such as 10.0.0.0/8."
        ) from error
