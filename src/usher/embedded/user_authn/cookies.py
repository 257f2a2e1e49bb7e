"""Cookies that tell other sites and the platform's micro-frontends who is signed in."""

import json
import time
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.utils.http import http_date
from oauth2_provider.models import get_application_model

from usher.embedded.oauth_dispatch import jwt, tokens
from usher.embedded.user_api.images import profile_image_urls

#: Cookie with header and payload of the JSON Web Token, and cookie with its signature, which
#: scripts of a page can't read.
PAYLOAD_COOKIE = settings.JWT_AUTH["JWT_AUTH_COOKIE_HEADER_PAYLOAD"]
SIGNATURE_COOKIE = settings.JWT_AUTH["JWT_AUTH_COOKIE_SIGNATURE"]
ALL_COOKIES = (
    PAYLOAD_COOKIE,
    SIGNATURE_COOKIE,
    settings.EDXMKTG_LOGGED_IN_COOKIE_NAME,
    settings.EDXMKTG_USER_INFO_COOKIE_NAME,
)


class LoginClientMissingError(RuntimeError):
    """The LMS has no OAuth client with the id JWT_LOGIN_CLIENT_ID, which sign-in cookies need."""


def are_set(request: HttpRequest) -> bool:
    """Whether the browser has all sign-in cookies."""
    return all(request.COOKIES.get(name) for name in ALL_COOKIES)


def delete_logged_in_cookies(response: HttpResponse) -> HttpResponse:
    for name in ALL_COOKIES:
        response.delete_cookie(name, path="/", domain=settings.SHARED_COOKIE_DOMAIN)
    return response


def _cookie_options(request: HttpRequest, seconds: int) -> dict[str, Any]:
    return {
        "domain": settings.SHARED_COOKIE_DOMAIN,
        "path": "/",
        "secure": request.is_secure(),
        "max_age": seconds,
        "expires": http_date(time.time() + seconds),
    }


def _user_info(request: HttpRequest, user: User) -> str:
    urls = {"logout": "/logout", "account_settings": "/account/settings"}
    return json.dumps(
        {
            "version": settings.EDXMKTG_USER_INFO_COOKIE_VERSION,
            "username": user.username,
            "email": user.email,
            "header_urls": {name: request.build_absolute_uri(path) for name, path in urls.items()},
            "user_image_urls": profile_image_urls(user, request),
        }
    )


def _jwt_cookie_values(request: HttpRequest, user: User, seconds: int) -> tuple[str, str]:
    """The values of ``PAYLOAD_COOKIE`` (header and payload joined by a dot) and of
    ``SIGNATURE_COOKIE``. seconds: lifetime of the token. Raises LoginClientMissingError."""
    client_id = settings.JWT_AUTH["JWT_LOGIN_CLIENT_ID"]
    client = get_application_model().objects.filter(client_id=client_id).first()
    if client is None:
        raise LoginClientMissingError(
            f"OAuth Client for the Login service, '{client_id}', is not configured."
        )
    scopes = ["user_id", "email", "profile"]
    token = tokens.issue(request, user, client, seconds=seconds, scopes=scopes)
    text = jwt.replace_access_token(token, asymmetric=True)["access_token"]
    head, payload, signature = text.split(".")
    return f"{head}.{payload}", signature


def set_logged_in_cookies(request: HttpRequest, response: HttpResponse, user: User) -> HttpResponse:
    """Set ``ALL_COOKIES``: the JWT cookies for JWT_IN_COOKIE_EXPIRATION seconds, the other two for
    as long as the session. An anonymous user gets none. Raises LoginClientMissingError."""
    if not user.is_authenticated:
        return response
    options = _cookie_options(request, request.session.get_expiry_age())
    response.set_cookie(settings.EDXMKTG_LOGGED_IN_COOKIE_NAME, "true", **options)
    response.set_cookie(
        settings.EDXMKTG_USER_INFO_COOKIE_NAME, _user_info(request, user), **options
    )
    seconds = settings.JWT_AUTH["JWT_IN_COOKIE_EXPIRATION"]
    options = _cookie_options(request, seconds)
    payload, signature = _jwt_cookie_values(request, user, seconds)
    response.set_cookie(PAYLOAD_COOKIE, payload, **options)
    response.set_cookie(SIGNATURE_COOKIE, signature, httponly=True, **options)
    return response
