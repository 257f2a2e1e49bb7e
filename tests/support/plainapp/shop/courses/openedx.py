"""The application's own requests to the LMS, one after the other."""

import secrets
from datetime import timedelta
from urllib.parse import parse_qs, urljoin, urlparse

import requests
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone
from oauth2_provider.models import get_access_token_model, get_application_model

from shop.courses.models import OpenEdxApiAuth, OpenEdxUser


class OpenEdxError(Exception):
    pass


def edx_url(path):
    return urljoin(settings.OPENEDX_API_BASE_URL, path)


def service_headers():
    return {"Authorization": f"Bearer {settings.OPENEDX_SERVICE_WORKER_API_TOKEN}"}


def get_course(courseware_id):
    """The course run of the LMS with this key. Raises OpenEdxError."""
    answer = requests.get(
        edx_url(f"/api/courses/v1/courses/{courseware_id}/"),
        params={"username": settings.OPENEDX_SERVICE_WORKER_USERNAME},
        headers=service_headers(),
        timeout=settings.EDX_API_CLIENT_TIMEOUT,
    )
    if answer.status_code != 200:
        raise OpenEdxError(f"{courseware_id}: {answer.status_code} {answer.text[:200]}")
    return answer.json()


def list_courses():
    """The first 100 course runs of the LMS. Raises OpenEdxError."""
    answer = requests.get(
        edx_url("/api/courses/v1/courses/"),
        params={"username": settings.OPENEDX_SERVICE_WORKER_USERNAME, "page_size": 100},
        headers=service_headers(),
        timeout=settings.EDX_API_CLIENT_TIMEOUT,
    )
    if answer.status_code != 200:
        raise OpenEdxError(f"course list: {answer.status_code} {answer.text[:200]}")
    return answer.json()["results"]


def create_user(user):
    """Creates the user's LMS account. Raises OpenEdxError if the LMS refuses."""
    application = get_application_model().objects.get(name=settings.OPENEDX_OAUTH_APP_NAME)
    token = get_access_token_model().objects.create(
        user=user,
        application=application,
        token=secrets.token_urlsafe(32),
        expires=timezone.now() + timedelta(minutes=10),
        scope="user:read",
    )
    answer = requests.post(
        edx_url("/user_api/v1/account/registration/"),
        data={
            "username": user.username,
            "email": user.email,
            "name": user.get_full_name(),
            "provider": settings.OPENEDX_OAUTH_PROVIDER,
            "access_token": token.token,
            "country": "US",
            "honor_code": "True",
        },
        timeout=settings.EDX_API_CLIENT_TIMEOUT,
    )
    # If both the username and the address are taken, a sign-in has created the account already.
    already_exists = answer.status_code == 409 and "duplicate-email-username" in answer.text
    if answer.status_code != 200 and not already_exists:
        raise OpenEdxError(f"{user.username}: {answer.status_code} {answer.text[:300]}")
    OpenEdxUser.objects.get_or_create(user=user)


def create_auth_token(user):
    """Signs the user in to the LMS as a browser does, and stores the user's LMS tokens. Raises
    OpenEdxError if the LMS refuses."""
    with requests.Session() as browser:
        browser.cookies.set(
            settings.SESSION_COOKIE_NAME,
            _session_key(user),
            domain=urlparse(settings.SITE_BASE_URL).hostname,
        )
        browser.get(edx_url(settings.OPENEDX_SOCIAL_LOGIN_PATH), timeout=60)
        redirect_uri = urljoin(settings.SITE_BASE_URL, "/login/_private/complete")
        response = browser.get(
            edx_url("/oauth2/authorize"),
            params={
                "client_id": settings.OPENEDX_API_CLIENT_ID,
                "scope": "read write",
                "redirect_uri": redirect_uri,
                "response_type": "code",
            },
            timeout=60,
        )
        codes = parse_qs(urlparse(response.url).query).get("code")
        if not codes:
            raise OpenEdxError(f"{user.username}: no code; ended at {response.url}")
    answer = requests.post(
        edx_url("/oauth2/access_token"),
        data={
            "grant_type": "authorization_code",
            "client_id": settings.OPENEDX_API_CLIENT_ID,
            "client_secret": settings.OPENEDX_API_CLIENT_SECRET,
            "code": codes[0],
            "redirect_uri": redirect_uri,
        },
        timeout=60,
    )
    if answer.status_code != 200:
        raise OpenEdxError(f"{user.username}: token {answer.status_code} {answer.text[:200]}")
    data = answer.json()
    OpenEdxApiAuth.objects.update_or_create(
        user=user,
        defaults={"access_token": data["access_token"], "refresh_token": data["refresh_token"]},
    )


def _session_key(user):
    """The value of the application's session cookie for a new session of ``user``."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session.session_key
