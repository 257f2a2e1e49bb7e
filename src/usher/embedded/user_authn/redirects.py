"""URLs to which a browser may be redirected after sign-in and sign-out."""

import mimetypes
from urllib.parse import parse_qs, urlencode, urlparse, urlsplit, urlunsplit

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from oauth2_provider.models import get_application_model

from usher.embedded.third_party_auth import registry


def is_safe_redirect(request: HttpRequest, target: str, client_id: str | None = None) -> bool:
    """Whether the URL is on this host, on the white list, or registered by the requesting OAuth
    client. client_id: None if no client requests the redirect.

    A client that doesn't exist raises an uncaught error, as on the platform.
    """
    allowed_hosts = {request.get_host(), *settings.LOGIN_REDIRECT_WHITELIST}
    target = target.translate({ord(character): None for character in "\t\r\n"})
    if client_id:
        client = get_application_model().objects.get(client_id=client_id)
        if target in client.redirect_uris:
            allowed_hosts.add(urlparse(target).netloc)
    return url_has_allowed_host_and_scheme(
        target, allowed_hosts=allowed_hosts, require_https=request.is_secure()
    )


def _requested_target(request: HttpRequest) -> str | None:
    """The parameter ``next`` if it is a safe URL of a page, else None."""
    parameters = request.GET if request.method == "GET" else request.POST
    target = parameters.get("next")
    if not target or not is_safe_redirect(request, target, parameters.get("client_id")):
        return None
    accepts = request.META.get("HTTP_ACCEPT", "")
    if not any(kind in accepts for kind in ("*/*", "text/*", "text/html")):
        return None  # the request is for data, such as JSON
    # A file, such as an image, is no page.
    if mimetypes.guess_type(target, strict=False)[0] or settings.STATIC_URL in target:
        return None
    return target


def target_after_sign_in(request: HttpRequest) -> str:
    """``next`` if it is safe, else the dashboard. The provider hint from the settings is added
    (``tpa_hint``), unless a sign-in through a provider is unfinished."""
    target = _requested_target(request) or reverse("dashboard")
    hint = settings.FEATURES.get("THIRD_PARTY_AUTH_HINT", "")
    if not hint or registry.running_pipeline(request) is not None:
        return target
    scheme, host, path, query, fragment = urlsplit(target)
    if "tpa_hint" in query:
        return target
    parameters = {**parse_qs(query), "tpa_hint": [hint]}
    return urlunsplit((scheme, host, path, urlencode(parameters, doseq=True), fragment))


def add_host(target: str) -> str:
    """``target`` as an absolute URL on the LMS, unless it already is absolute."""
    scheme, host, path, query, fragment = urlsplit(target)
    if host:
        return target
    root = urlsplit(settings.LMS_ROOT_URL)
    return urlunsplit((scheme or root.scheme, root.netloc, path, query, fragment))
