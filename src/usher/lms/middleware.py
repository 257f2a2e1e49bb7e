"""Middleware of the plugin."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

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

#: The URL parameter that tells python-social-auth which pipeline to resume.
PARTIAL_TOKEN = "partial_token"  # noqa: S105 - a parameter's name

#: What python-social-auth and the database raise if the application's answer is no JSON object, or
#: has values of other types, NUL characters or halves of surrogate pairs.
MALFORMED_ANSWER = (AttributeError, LookupError, RecursionError, TypeError, ValueError)


class ApplicationSignIn:
    """Handles failures of sign-in through an application.

    When sign-in fails, a page says so. The platform would redirect to ``/login``, which redirects
    to the application, which redirects back: a loop, as long as the application keeps failing.

    A redirect back from the application with a code always begins a new pipeline. The platform
    keeps the last pipeline's token in the session and would resume that pipeline: the earlier
    learner would be signed in, even if another learner is signed in at the application now. Only
    the session that began a pipeline may resume it. Any other token in the URL, as in a link that
    somebody sent, is refused.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: Any, view: Any, args: Any, kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """Refuse to resume another session's pipeline. If the request has a code, forget the
        session's own pipeline, so that a new one begins."""
        backend = kwargs.get("backend")
        if not request.path.startswith(LmsPath.SIGN_IN_COMPLETE) or backend not in conf.backends():
            return None
        tokens = {*request.GET.getlist(PARTIAL_TOKEN), *request.POST.getlist(PARTIAL_TOKEN)}
        own_token = request.session.get(PARTIAL_TOKEN_SESSION_NAME)
        if tokens - {own_token}:
            return stop(request, Reason.FAILED, backend)
        if "code" in {*request.GET, *request.POST}:
            # Under the second name, the platform keeps a copy of the token.
            for name in (PARTIAL_TOKEN_SESSION_NAME, f"{PARTIAL_TOKEN_SESSION_NAME}_"):
                request.session.pop(name, None)
        return None

    def process_exception(self, request: Any, error: Exception) -> HttpResponse | None:
        """Answer a failure of sign-in through an application with a redirect to the page about
        it."""
        backend = getattr(getattr(request, "backend", None), "name", "")
        if backend not in conf.backends() or not request.path.startswith("/auth/"):
            return None
        if isinstance(error, AuthAlreadyAssociated):
            current = request.user.get_username()
            return stop(request, Reason.OTHER_ACCOUNT, backend, current=current)
        if isinstance(error, (SocialAuthBaseException, RequestException, *MALFORMED_ANSWER)):
            log.error(
                "Signing in with %s failed: %s", backend, type(error).__name__, exc_info=error
            )
            return stop(request, Reason.FAILED, backend)
        return None


class DirectRegistration:
    """Refuses registrations that don't come from an application. Installed only if
    ``USHER_BACKENDS`` names an application.

    Otherwise anybody could register with a learner's username and e-mail address before that
    learner's first sign-in, which would then fail. Registrations by an application carry the
    learner's access token, which the platform verifies with the application.
    ``USHER_DIRECT_REGISTRATION = True`` allows all registrations again.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.paths = {path.rstrip("/") for path in LmsPath.REGISTRATIONS}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path.rstrip("/") in self.paths:
            is_open = bool(getattr(settings, "USHER_DIRECT_REGISTRATION", False))
            if not (is_open or self._is_by_application(request)):
                # The platform's own answer when registration is disabled.
                return HttpResponseForbidden("Account creation not allowed.")
        return self.get_response(request)

    def _is_by_application(self, request: HttpRequest) -> bool:
        """Whether an application sent the registration. Also true for a learner who is signing in
        with a provider that isn't an application."""
        if request.POST.get("provider") and request.POST.get("access_token"):
            return True
        if is_service_worker_token(presented_token(request), timezone.now()):
            return True
        # A learner who signs in with a provider that isn't an application fills in the form.
        token = request.session.get(PARTIAL_TOKEN_SESSION_NAME)
        partial = Partial.objects.filter(token=token).first() if token else None
        return partial is not None and partial.backend not in conf.backends()


class CourseLinks:
    """Redirects MITx Online's links to a course run to the run's page in the LMS.

    MITx Online always builds ``LMS/learn/course/KEY/home``, which at MIT is the address of the
    micro-frontend for learning. The platform has no page there. A link is redirected only if the
    LMS answers it with 404.
    """

    PATH = re.compile(r"/learn/course/([^/]+)/home/?")

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        match = self.PATH.fullmatch(request.path_info)
        if match is None or response.status_code != HTTPStatus.NOT_FOUND:
            return response
        key = quote(match[1], safe=":+")
        return HttpResponseRedirect(LmsPath.COURSE_HOME.format(course_key=key))


class AnonymousToApplication:
    """Redirects anonymous visitors of any page to sign-in.

    Active when ``USHER_REDIRECT_ANONYMOUS`` is true. APIs, sign-in itself and static files stay
    open; ``USHER_ANONYMOUS_PATHS`` adds regular expressions of paths that stay open.
    """

    OPEN_PATHS = (
        r"^/(auth|oauth2|login|login_ajax|logout|register|admin|api|user_api|usher|heartbeat)(/|$|_)",
        r"^/(static|media|theming|asset|c4x|assets|favicon\.ico|robots\.txt|event|csrf|\.well-known)",
        r"/api/|/xblock/|^/courses/[^/]+/xqueue/",
    )

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        further_paths = getattr(settings, "USHER_ANONYMOUS_PATHS", [])
        self.open_paths = re.compile("|".join([*self.OPEN_PATHS, *further_paths]))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        is_page = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
        if (
            is_page
            and not request.user.is_authenticated
            and not self.open_paths.search(request.path)
        ):
            query = urlencode({"next": request.get_full_path()})
            return HttpResponseRedirect(f"{LmsPath.LOGIN}?{query}")
        return self.get_response(request)
