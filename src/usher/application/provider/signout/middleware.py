"""Records a new key of a session in which somebody is signed in.

Django gives a session a new key when its user changes the password, and sends no signal. A sign-out
in the LMS ends sessions by their keys, so the new key must be recorded.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from usher.application import conf
from usher.application.provider.signout import sessions


class KnownSessions:
    """The middleware. Its place is anywhere after Django's session middleware.

    Reads the settings when the server starts, so that malformed settings stop the start: WSGI and
    ASGI servers don't run Django's checks.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        conf.settings()  # raises ImproperlyConfigured for malformed settings
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        sessions.record_new_key(getattr(request, "session", None))
        return response
