"""Ignores the platform's JWT cookies of a session that an application has ended.

The cookies say who is signed in, and APIs accept them for up to an hour: without this middleware
the pages of a micro-frontend would keep working after the sign-out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse

from usher.contract.failures import is_storable
from usher.contract.paths import LmsPath
from usher.lms import conf
from usher.lms.signout.listeners import update_session_key
from usher.lms.signout.services import was_ended_since

#: Unix seconds of about the year 5138: ``datetime`` can't represent times after the year 9999.
_MAX_TIME = 1e11


class EndedSessions:
    """Removes the JWT cookies from requests whose session an application has ended, and records
    the new key of a session whose key changes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        jwt_settings = getattr(settings, "JWT_AUTH", {})
        self.payload_cookie = jwt_settings.get(
            "JWT_AUTH_COOKIE_HEADER_PAYLOAD", "edx-jwt-cookie-header-payload"
        )
        self.other_cookies = (
            jwt_settings.get("JWT_AUTH_COOKIE_SIGNATURE", "edx-jwt-cookie-signature"),
            jwt_settings.get("JWT_AUTH_COOKIE", "edx-jwt-cookie"),
        )

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response_without_old_cookies(request)
        update_session_key(getattr(request, "session", None))
        return response

    def _get_response_without_old_cookies(self, request: HttpRequest) -> HttpResponse:
        """The response to the request without JWT cookies of an ended session. The browser then
        deletes these cookies."""
        if not self._has_cookies_of_ended_session(request):
            return self.get_response(request)
        for name in (self.payload_cookie, *self.other_cookies):
            request.COOKIES.pop(name, None)
        response = self.get_response(request)
        if self.payload_cookie not in response.cookies:  # otherwise a new sign-in has set cookies
            conf.platform().delete_sign_in_cookies(response)
        return response

    def _has_cookies_of_ended_session(self, request: HttpRequest) -> bool:
        """Whether the request has JWT cookies of a session that an application has ended."""
        if self.payload_cookie not in request.COOKIES or SESSION_KEY in request.session:
            return False  # no cookie, or a session that is signed in
        if request.path.startswith(LmsPath.SIGN_IN_COMPLETE) and "code" not in request.GET:
            # The current sign-in has just set the cookies, perhaps in the same second as the
            # previous sign-out, or on a server with another clock. Without the cookies, sign-in
            # would start again.
            return False
        claims = _claims(request.COOKIES[self.payload_cookie])
        username, issued = claims.get("preferred_username"), claims.get("iat")
        if not isinstance(username, str) or not isinstance(issued, int | float):
            return False
        if not is_storable(username):
            return False  # the database would refuse the query
        return 0 <= issued < _MAX_TIME and was_ended_since(username, issued)


def _claims(cookie: str) -> dict[str, object]:
    """The claims, without verifying the signature: they only decide whether to ignore cookies. {}
    if they can't be read."""
    try:
        payload = cookie.split(".")[1]
        padding = "=" * (-len(payload) % 4)  # JWTs leave out base64's padding
        claims = json.loads(base64.urlsafe_b64decode(payload + padding))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
