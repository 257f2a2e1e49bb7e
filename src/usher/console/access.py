"""Permissions of the console: its pages are for staff, each action needs its own permission and is
audited."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from usher.application.logs import logger

#: The console's permissions; the last two are those of the same actions in Django's admin.
VIEW = "usher_console.view_console"
IGNORE = "usher_console.ignore_refusals"
EXPORT = "usher_console.export_refusals"
COMPARE = "usher_console.compare_with_lms"
LINK = "usher_console.link_accounts"
DOCTOR = "usher_console.run_doctor"
RETRY = "usher.retry_records"
REPAIR = "usher.repair_records"

View = Callable[..., HttpResponse]

log = logger("usher.console")


def page(*permissions: str) -> Callable[[View], View]:
    """Decorates a page, which changes nothing. Staff need the permission to see the console, and
    all ``permissions``."""

    def decorate(view: View) -> View:
        return require_safe(_require_permissions(view, permissions))

    return decorate


def action(*permissions: str) -> Callable[[View], View]:
    """Decorates an action, which is a POST request. Staff need the same permissions as for a page.
    The action's URL is below the URL of a page. A GET request, which a browser sends if the user
    had to sign in again, redirects to that page.
    """

    def decorate(view: View) -> View:
        guarded_view = _require_permissions(view, permissions)

        @wraps(view)
        def act_or_redirect(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method in ("GET", "HEAD"):
                return HttpResponseRedirect("../")
            return guarded_view(request, *args, **kwargs)

        return require_http_methods(["GET", "HEAD", "POST"])(act_or_redirect)

    return decorate


def _require_permissions(view: View, permissions: tuple[str, ...]) -> View:
    """Returns the view for staff who may see the console and have all ``permissions``. Others must
    sign in, or get PermissionDenied."""

    @wraps(view)
    def guarded_view(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        user: Any = request.user
        if not user.is_authenticated:
            return redirect_to_login(request.get_full_path(), resolve_url(settings.LOGIN_URL))
        is_staff = user.is_active and user.is_staff
        if not is_staff or not user.has_perms((VIEW, *permissions)):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return never_cache(guarded_view)


def allowed_actions(request: HttpRequest) -> dict[str, bool]:
    """Returns the user's permissions for templates: action → whether it is allowed."""
    user: Any = request.user
    names = {
        "retry": RETRY,
        "repair": REPAIR,
        "ignore": IGNORE,
        "export": EXPORT,
        "compare": COMPARE,
        "link": LINK,
        "doctor": DOCTOR,
    }
    return {name: user.has_perm(permission) for name, permission in names.items()}


def audit(
    request: HttpRequest, name: str, subject: object, *, succeeded: bool = True, **detail: Any
) -> None:
    """Writes a person's action to the audit log or, if the audit app is not installed, to the
    process's log.

    subject: the learner's username, the course key, or another name of the object.
    """
    if apps.is_installed("usher.application.audit"):
        from usher.application.audit.services import record

        record(
            f"console-{name}",
            subject=subject,
            actor=request.user,
            request=request,
            succeeded=succeeded,
            **detail,
        )
        return
    log.info(f"console-{name}", subject=str(subject), actor=str(request.user), **detail)
