"""Keeps sight of a session whose key changes while somebody is signed in.

Django gives a session a new key when its owner changes the password, and sends no signal. A
sign-out from outside ends sessions by their keys, so it must know the new one.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from usher.application.provider.signout import sessions


class KnownSessions:
    """Anywhere behind Django's own session middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        sessions.follow(getattr(request, "session", None))
        return response
