"""The paths of this application that the LMS and browsers request."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as WarningMessage
from django.shortcuts import resolve_url
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import NoReverseMatch, Resolver404, resolve
from django.views.generic.base import TemplateResponseMixin

from usher.contract.paths import ApplicationPath

_PATHS_FOR_LMS = (
    ApplicationPath.AUTHORIZE,
    ApplicationPath.TOKEN,
    ApplicationPath.USERS_ME,
    ApplicationPath.LANDINGS[0],
    ApplicationPath.LOGOUT,
)


#: Name of a setting with an address → when browsers are redirected to that address.
_REDIRECT_SETTINGS = {
    "LOGIN_REDIRECT_URL": "after they signed in here",
    "USHER_SIGNED_OUT_URL": "after they signed out",
}


def messages() -> Iterator[CheckMessage]:
    if not getattr(django_settings, "ROOT_URLCONF", ""):
        return
    yield from _paths_for_lms()
    yield from _sign_in_page()
    yield from _redirect_settings()


def _paths_for_lms() -> Iterator[CheckMessage]:
    if absent := [path for path in _PATHS_FOR_LMS if not _resolves(path)]:
        yield Error(
            f"No view answers at {', '.join(absent)}, which the LMS calls.",
            hint='Add path("", include("usher.application.urls")) to the root URLconf, and `from '
            "django.urls import include, path`.",
            id="usher.E012",
        )


def _sign_in_page() -> Iterator[CheckMessage]:
    """Whether ``LOGIN_URL`` names a page of this project that has a template, or a page of another
    host, which is not checked."""
    try:
        login = resolve_url(django_settings.LOGIN_URL)
    except NoReverseMatch:
        login = str(django_settings.LOGIN_URL)
    if not urlsplit(login).netloc and not _resolves(login):
        yield WarningMessage(
            f"LOGIN_URL is {django_settings.LOGIN_URL!r}, where no view answers: learners who sign "
            "in at the LMS are redirected there.",
            hint="Set LOGIN_URL to your sign-in page.",
            id="usher.W004",
        )
    elif template := _missing_template(login):
        yield Error(
            f"The sign-in page at {login} has no template: {template} does not exist.",
            hint="Create the template, or use the admin's for now: "
            'path("accounts/login/", LoginView.as_view(template_name="admin/login.html")).',
            id="usher.E015",
        )


def _redirect_settings() -> Iterator[CheckMessage]:
    for name in _REDIRECT_SETTINGS:
        try:
            resolve_url(getattr(django_settings, name, "/"))
        except NoReverseMatch:
            yield Error(
                f"{name} is {getattr(django_settings, name)!r}, which is neither a path nor the "
                "name of a view: pages that link to it fail.",
                hint="Write a path such as /, or the name of a view.",
                id="usher.E019",
            )


def deploy_messages() -> Iterator[CheckMessage]:
    """Warns about addresses where no view answers. These are not errors, since a server in front of
    Django may answer at such an address."""
    if not getattr(django_settings, "ROOT_URLCONF", ""):
        return
    for name, when in _REDIRECT_SETTINGS.items():
        try:
            address = resolve_url(getattr(django_settings, name, "/"))
        except NoReverseMatch:
            continue  # reported by ``messages``
        if not urlsplit(address).netloc and not _resolves(urlsplit(address).path or "/"):
            yield WarningMessage(
                f"{name} is {address!r}, where no view answers: learners are redirected there "
                f"{when}.",
                hint=f"Set {name} to a page of your project.",
                id="usher.W030",
            )


def _missing_template(path: str) -> str:
    """The name of the sign-in page's template if it does not exist; '' if it exists, or if the view
    is not one of Django's template views."""
    try:
        func = resolve(path).func
    except Resolver404:
        return ""
    view = getattr(func, "view_class", None)
    if view is None or not issubclass(view, TemplateResponseMixin):
        return ""
    template = view(**getattr(func, "view_initkwargs", {})).template_name
    try:
        if template:
            get_template(template)
    except TemplateDoesNotExist:
        return str(template)
    return ""


def _resolves(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
