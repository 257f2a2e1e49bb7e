"""Serial creation of a learner's account and tokens: nine requests, one after the other."""

from __future__ import annotations

from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application
from oauthlib.common import generate_token

from benchmarks.reference.store.models import OpenEdxTokens, OpenEdxUser

_BACKEND = "mitxpro-oauth2"
#: Seconds for each request.
_TIMEOUT = 60


def repair(username_pattern: str, first: int, end: int) -> int:
    """Creates accounts and tokens of these learners. Returns the number of learners."""
    users = get_user_model().objects.filter(
        username__in=[username_pattern.format(number) for number in range(first, end)]
    )
    for user in users:
        create_account(user)
        create_tokens(user)
    return len(users)


def create_account(user: Any) -> None:
    """Request 1: registration. With the access token, a real LMS requests the learner's details."""
    account, _ = OpenEdxUser.objects.get_or_create(user=user, defaults={"username": user.username})
    token = AccessToken.objects.create(
        user=user,
        application=Application.objects.get(name="edx-oauth-app"),
        token=generate_token(),
        expires=timezone.now() + timedelta(hours=1),
        scope="user:read",
    )
    response = requests.post(
        settings.LMS_URL + "/user_api/v1/account/registration/",
        data={
            "username": user.username,
            "email": user.email,
            "name": user.get_full_name(),
            "provider": _BACKEND,
            "access_token": token.token,
            "country": "US",
            "honor_code": True,
        },
        timeout=_TIMEOUT,
    )
    response.raise_for_status()
    account.has_been_synced = True
    account.save()


def create_tokens(user: Any) -> None:
    """Requests 2 to 9: sign-in with the learner's session, followed to the dashboard;
    authorization, followed to the landing page; exchange of the code."""
    landing = f"{settings.SITE_BASE_URL}/login/_private/complete"
    with requests.Session() as browser:
        _sign_in_to_application(browser, user)
        start = f"{settings.LMS_URL}/auth/login/{_BACKEND}/"
        response = browser.get(start, params={"auth_entry": "login"}, timeout=_TIMEOUT)
        response.raise_for_status()
        response = browser.get(
            settings.LMS_URL + "/oauth2/authorize",
            params={
                "client_id": settings.LMS_CLIENT_ID,
                "scope": "read write",
                "redirect_uri": landing,
                "response_type": "code",
            },
            timeout=_TIMEOUT,
        )
        response.raise_for_status()
    code = parse_qs(urlsplit(response.url).query)["code"][0]
    response = requests.post(
        settings.LMS_URL + "/oauth2/access_token",
        data={
            "code": code,
            "grant_type": "authorization_code",
            "client_id": settings.LMS_CLIENT_ID,
            "client_secret": settings.LMS_CLIENT_SECRET,
            "redirect_uri": landing,
        },
        timeout=_TIMEOUT,
    )
    response.raise_for_status()
    tokens = response.json()
    OpenEdxTokens.objects.update_or_create(
        user=user,
        defaults={
            "access_token": tokens["access_token"],
            "refresh_token": tokens["refresh_token"],
            "expires_at": timezone.now() + timedelta(seconds=tokens["expires_in"]),
        },
    )


def session_of(user: Any) -> str:
    """The key of a session of the application in which the learner is signed in."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def _sign_in_to_application(browser: requests.Session, user: Any) -> None:
    """Gives the browser the cookie of a new session of the learner; no form is sent."""
    cookie: SimpleCookie = SimpleCookie()
    cookie[settings.SESSION_COOKIE_NAME] = session_of(user)
    host = urlsplit(settings.SITE_BASE_URL).hostname or ""
    # Cookie jars add .local to a host name without a dot.
    domain = host if "." in host else f"{host}.local"
    for name, morsel in cookie.items():
        browser.cookies.set(name, morsel.value, domain=domain, path="/")
