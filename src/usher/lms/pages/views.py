"""The page that explains a stopped sign-in, and the switch to another account."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect, ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from usher.contract.editions import EDITIONS
from usher.contract.paths import LmsPath
from usher.lms import conf
from usher.lms.connections.models import ConnectedApplication
from usher.lms.pages.stopped import SESSION_KEY, Reason


@never_cache
@require_GET
@ensure_csrf_cookie
def stopped(request: HttpRequest) -> HttpResponse:
    """The page with the reason from the session: status 502 if the application failed, else 403.
    Redirects to ``/`` when no sign-in was stopped."""
    details = request.session.get(SESSION_KEY)
    if not details:
        return HttpResponseRedirect("/")
    context = {
        **details,
        "platform": getattr(settings, "PLATFORM_NAME", "") or "this learning platform",
        "application": _application_name(details["backend"]),
        "application_url": _application_url(details["backend"]),
        "support_email": getattr(settings, "CONTACT_EMAIL", ""),
        "retry": LmsPath.sign_in_start(details["backend"]) + "?auth_entry=login",
        "switch": reverse("usher:switch"),
        "csrf_token": get_token(request),
    }
    # Rendered without the request: the LMS's context processors are for the LMS's own theme.
    page = render_to_string("usher_lms/stopped.html", context)
    return HttpResponse(page, status=502 if details["reason"] == Reason.FAILED else 403)


@never_cache
@require_POST
@csrf_protect
def switch(request: HttpRequest) -> HttpResponse:
    """Sign out of the LMS and sign in again as the application's current user."""
    details: dict[str, Any] = request.session.get(SESSION_KEY) or {}
    backend = details.get("backend", "")
    if backend not in conf.backends():
        return HttpResponseRedirect("/")
    query = {"auth_entry": "login"}
    next_url = details.get("next", "")
    if next_url and url_has_allowed_host_and_scheme(
        next_url, {request.get_host()}, request.is_secure()
    ):
        query["next"] = next_url
    response = HttpResponseRedirect(f"{LmsPath.sign_in_start(backend)}?{urlencode(query)}")
    conf.platform().sign_out(request, response)
    return response


def _application_name(backend: str) -> str:
    """The application's name for people: its product name if known, else the name in the newest
    provider record, else ``backend``."""
    application = ConnectedApplication.objects.filter(backend=backend).first()
    if application and application.name in EDITIONS:
        return EDITIONS[application.name].title
    model = conf.platform().provider_model()
    record = model.objects.filter(backend_name=backend).order_by("-change_date", "-pk").first()
    return record.name if record and record.name else backend


def _application_url(backend: str) -> str:
    """The application's home page, on the host of its sign-out URL; '' when it isn't known."""
    application = ConnectedApplication.objects.filter(backend=backend).first()
    parts = urlsplit(application.logout_url if application else "")
    return f"{parts.scheme}://{parts.netloc}/" if parts.scheme in ("http", "https") else ""
