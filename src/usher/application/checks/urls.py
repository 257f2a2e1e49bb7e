"""Addresses that the LMS and browsers call by name."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error
from django.core.checks import Warning as WarningMessage
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, Resolver404, resolve

from usher.contract.paths import ApplicationPath

_CALLED = (
    ApplicationPath.AUTHORIZE,
    ApplicationPath.TOKEN,
    ApplicationPath.USERS_ME,
    ApplicationPath.LANDINGS[0],
    ApplicationPath.LOGOUT,
)


def messages() -> Iterator[CheckMessage]:
    if not getattr(django_settings, "ROOT_URLCONF", ""):
        return
    if absent := [path for path in _CALLED if not _leads_somewhere(path)]:
        yield Error(
            f"No view answers at {', '.join(absent)}, which the LMS calls.",
            hint='Add path("", include("usher.application.urls")) to the root URLconf.',
            id="usher.E012",
        )
    try:
        login = resolve_url(django_settings.LOGIN_URL)
    except NoReverseMatch:
        login = str(django_settings.LOGIN_URL)
    if not urlsplit(login).netloc and not _leads_somewhere(login):
        yield WarningMessage(
            f"LOGIN_URL is {django_settings.LOGIN_URL!r}, where no view answers: learners who come "
            "from the LMS are sent there.",
            hint="Set LOGIN_URL to your sign-in page, or add "
            'path("accounts/", include("django.contrib.auth.urls")).',
            id="usher.W004",
        )


def _leads_somewhere(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True
