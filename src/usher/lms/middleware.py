"""Middleware of the plugin."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseForbidden,
    HttpResponseRedirect,
)
from django.utils import timezone
from django.utils.http import urlencode
from requests.exceptions import RequestException
from social_core.exceptions import AuthAlreadyAssociated, SocialAuthBaseException
from social_core.utils import PARTIAL_TOKEN_SESSION_NAME
from social_django.models import Partial

from usher.contract.paths import LmsPath
from usher.lms import conf
from usher.lms.connections.services import is_service_worker_token
from usher.lms.limits import presented_token
from usher.lms.pages.stopped import Reason, stop

log = logging.getLogger(__name__)

#: In an address, by which python-social-auth resumes any pipeline.
PARTIAL_TOKEN = "partial_token"  # noqa: S105 - a parameter's name


class ApplicationSignIn:
    """Handles failures of sign-in through an application.

    When it fails, a page says so. The platform would lead to ``/login``, which leads to the
    application, which leads back: with one that keeps failing, a browser would go in circles.

    And an answer of the application always begins a pipeline of its own. The platform leaves the
    token of the last one in the session, which would be resumed instead: as the earlier
    learner, although another one is signed in at the application now. A pipeline is resumed by the
    session that began it and no other: a token in the address, as in a link that somebody sent, is
    refused.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: Any, view: Any, args: Any, kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        backend = kwargs.get("backend")
        if not request.path.startswith(LmsPath.SIGN_IN_COMPLETE) or backend not in conf.backends():
            return None
        given = {*request.GET.getlist(PARTIAL_TOKEN), *request.POST.getlist(PARTIAL_TOKEN)}
        if given - {request.session.get(PARTIAL_TOKEN_SESSION_NAME)}:
            return stop(request, Reason.FAILED, backend)
        if "code" in {*request.GET, *request.POST}:
            for name in (PARTIAL_TOKEN_SESSION_NAME, f"{PARTIAL_TOKEN_SESSION_NAME}_"):
                request.session.pop(name, None)
        return None

    def process_exception(self, request: Any, error: Exception) -> HttpResponse | None:
        backend = getattr(getattr(request, "backend", None), "name", "")
        if backend not in conf.backends() or not request.path.startswith("/auth/"):
            return None
        if isinstance(error, AuthAlreadyAssociated):
            current = request.user.get_username()
            return stop(request, Reason.OTHER_ACCOUNT, backend, current=current)
        if isinstance(error, (SocialAuthBaseException, RequestException)):
            log.error(
                "Signing in with %s failed: %s", backend, type(error).__name__, exc_info=error
            )
            return stop(request, Reason.FAILED, backend)
        return None


class DirectRegistration:
    """Refuses registrations that no application vouches for, while one is connected.

    Else anybody could register a learner's name and address before the learner comes, who is then
    stopped. Registrations by an application carry the learner's access token, which the platform
    asks the application about. ``USHER_DIRECT_REGISTRATION`` opens it again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.paths = {path.rstrip("/") for path in LmsPath.REGISTRATIONS}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path.rstrip("/") in self.paths:
            is_open = bool(getattr(settings, "USHER_DIRECT_REGISTRATION", False))
            if not (is_open or self._is_vouched_for(request)):
                # The words and the status of the platform where registration is switched off.
                return HttpResponseForbidden("Account creation not allowed.")
        return self.get_response(request)

    def _is_vouched_for(self, request: HttpRequest) -> bool:
        if request.POST.get("provider") and request.POST.get("access_token"):
            return True
        if is_service_worker_token(presented_token(request), timezone.now()):
            return True
        # Somebody who signs in with another provider than an application fills in the form.
        token = request.session.get(PARTIAL_TOKEN_SESSION_NAME)
        begun = Partial.objects.filter(token=token).first() if token else None
        return begun is not None and begun.backend not in conf.backends()


class AnonymousToApplication:
    """Sends every anonymous visitor's page to sign-in, so that nobody sees the LMS without it.

    Off unless ``USHER_REDIRECT_ANONYMOUS``. APIs, sign-in itself and static files stay open;
    ``USHER_ANONYMOUS_PATHS`` names more.
    """

    OPEN = (
        r"^/(auth|oauth2|login|login_ajax|logout|register|admin|api|user_api|usher|heartbeat)(/|$|_)",
        r"^/(static|media|theming|asset|c4x|assets|favicon\.ico|robots\.txt|event|csrf|\.well-known)",
        r"/api/|/xblock/|^/courses/[^/]+/xqueue/",
    )

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        more = getattr(settings, "USHER_ANONYMOUS_PATHS", [])
        self.open = re.compile("|".join([*self.OPEN, *more]))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
        if page and not request.user.is_authenticated and not self.open.search(request.path):
            query = urlencode({"next": request.get_full_path()})
            return HttpResponseRedirect(f"{LmsPath.LOGIN}?{query}")
        return self.get_response(request)
