"""``/login`` and ``/register``: one page, which may redirect to a provider."""

import logging
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_http_methods
from django_ratelimit.decorators import ratelimit

from usher.embedded.core.limits import client_address, rate_of
from usher.embedded.third_party_auth import registry
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig
from usher.embedded.third_party_auth.pipeline import user_exists
from usher.embedded.user_authn.cookies import set_logged_in_cookies
from usher.embedded.user_authn.redirects import target_after_sign_in

log = logging.getLogger(__name__)


def _sign_in_url(record: OAuth2ProviderConfig, entry: str, target: str) -> str:
    parameters = urlencode({"auth_entry": entry, "next": target})
    return f"{reverse('social:begin', args=[record.backend_name])}?{parameters}"


def _hinted_provider(target: str) -> OAuth2ProviderConfig | None:
    """The provider that ``tpa_hint`` in the target names, if this provider is enabled on this
    site."""
    hints = parse_qs(urlparse(target).query).get("tpa_hint")
    try:
        return registry.find_by_id(hints[0]) if hints else None
    except ValueError:
        log.exception("Unknown tpa_hint provider: %s", hints)
        return None


def _unfinished_sign_in(request: HttpRequest) -> dict[str, Any]:
    """Template variables for the unfinished sign-in of this browser; {} without one. Among them:
    collision, whether another account has the learner's e-mail address or username; submit, whether
    the page submits the registration form by itself; finish, the URL that resumes the sign-in."""
    sign_in = registry.running_pipeline(request)
    if sign_in is None:
        return {}
    record = registry.find_by_backend(sign_in["backend"])
    if record is None:
        return {}
    details = sign_in["kwargs"].get("details", {})
    # The form can't create an account with a taken e-mail address or username.
    username_only = {"username": details.get("username")}
    is_taken = user_exists(details) or user_exists(username_only)
    return {
        "record": record,
        "details": details,
        "name": details.get("name") or details.get("fullname") or "",
        "username": sign_in["kwargs"].get("username", ""),
        "collision": is_taken,
        "submit": record.skip_registration_form and not is_taken,
        "finish": reverse("social:complete", args=[record.backend_name]),
    }


@require_http_methods(["GET"])
@ratelimit(
    key=client_address,
    rate=rate_of("LOGIN_AND_REGISTER_FORM_RATELIMIT"),
    method="GET",
    block=True,
)
@ensure_csrf_cookie
def login_and_registration_form(request: HttpRequest, initial_mode: str = "login") -> HttpResponse:
    """Redirects a signed-in user to ``next``, and an anonymous user to the hinted provider, if
    there is one. Otherwise shows the page."""
    target = target_after_sign_in(request)
    if request.user.is_authenticated:
        return set_logged_in_cookies(request, redirect(target), request.user)
    hinted_provider = _hinted_provider(target) if registry.is_enabled() else None
    if hinted_provider and hinted_provider.skip_hinted_login_dialog:
        return redirect(_sign_in_url(hinted_provider, initial_mode, target))
    if settings.FEATURES.get("ENABLE_AUTHN_MICROFRONTEND") and not hinted_provider:
        query = request.GET.urlencode()
        return redirect(
            f"{settings.AUTHN_MICROFRONTEND_URL}/{initial_mode}{'?' + query if query else ''}"
        )
    enabled_providers = registry.enabled_records() if registry.is_enabled() else ()
    providers = [
        {"name": provider.name, "url": _sign_in_url(provider, initial_mode, target)}
        for provider in enabled_providers
        if provider.display_for_login or provider == hinted_provider
    ]
    context = {
        "mode": initial_mode,
        "target": target,
        "providers": providers,
        "unfinished": _unfinished_sign_in(request),
        "may_register": settings.FEATURES.get("ALLOW_PUBLIC_ACCOUNT_CREATION", True),
        "title": "Sign in or Register",
    }
    response = render(request, "user_authn/login_and_register.html", context)
    # The platform sets this cookie on this page, too.
    response.set_cookie("experiments_is_enterprise", "false")
    return response
