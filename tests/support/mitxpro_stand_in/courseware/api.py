"""The application's own integration: one learner and one request at a time."""

from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.db import transaction
from django.utils import timezone
from django.utils.crypto import get_random_string
from oauth2_provider.models import AccessToken, Application

from courseware.models import CoursewareUser, OpenEdxApiAuth

MODE = "no-id-professional"


def create_edx_user(user):
    """Creates the user's LMS account. Returns whether it was created: not if the application has a
    record of it. Raises httpx.HTTPStatusError if the LMS refuses."""
    application = Application.objects.get(name=settings.OPENEDX_OAUTH_APP_NAME)
    expires = timezone.now() + timedelta(hours=settings.OPENEDX_TOKEN_EXPIRES_HOURS)
    token = AccessToken.objects.create(
        user=user,
        application=application,
        token=get_random_string(40),
        expires=expires,
        scope="user:read",
    )
    with transaction.atomic():
        _, created = CoursewareUser.objects.select_for_update().get_or_create(
            user=user, platform="edx"
        )
        if not created:
            return False
        answer = httpx.post(
            settings.OPENEDX_API_BASE_URL + "/user_api/v1/account/registration/",
            data={
                "username": user.username,
                "email": user.email,
                "name": user.name or user.username,
                "country": user.legal_address.country or "US",
                "honor_code": "true",
                "provider": settings.OPENEDX_OAUTH_PROVIDER,
                "access_token": token.token,
            },
            timeout=settings.EDX_API_CLIENT_TIMEOUT,
        )
        answer.raise_for_status()
        return True


def session_cookie(user):
    """The value of the application's session cookie for a new session of ``user``."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session.session_key


@transaction.atomic
def create_edx_auth_token(user):
    """Signs the user in to the LMS as a browser does, and stores the user's LMS tokens."""
    redirect_uri = settings.SITE_BASE_URL + "/login/_private/complete"
    with httpx.Client(follow_redirects=True, timeout=settings.EDX_API_CLIENT_TIMEOUT) as browser:
        host = urlsplit(settings.SITE_BASE_URL).hostname
        browser.cookies.set(settings.SESSION_COOKIE_NAME, session_cookie(user), domain=host)
        lms_url = settings.OPENEDX_API_BASE_URL
        browser.get(lms_url + settings.OPENEDX_SOCIAL_LOGIN_PATH).raise_for_status()
        query = urlencode(
            {
                "client_id": settings.OPENEDX_API_CLIENT_ID,
                "scope": "read write",
                "redirect_uri": redirect_uri,
                "response_type": "code",
            }
        )
        response = browser.get(f"{lms_url}/oauth2/authorize?{query}")
        code = parse_qs(urlsplit(str(response.url)).query)["code"][0]
        return store_tokens(user, grant_type="authorization_code", code=code)


def store_tokens(user, **grant):
    """Exchanges an authorization code, or the stored refresh token, for new LMS tokens. grant: the
    request's fields with the code; without fields, the refresh token is sent. As in the original,
    the row is locked during the request."""
    with transaction.atomic():
        auth = OpenEdxApiAuth.objects.select_for_update().filter(user=user).first()
        answer = httpx.post(
            settings.OPENEDX_API_BASE_URL + "/oauth2/access_token",
            data={
                "client_id": settings.OPENEDX_API_CLIENT_ID,
                "client_secret": settings.OPENEDX_API_CLIENT_SECRET,
                "redirect_uri": settings.SITE_BASE_URL + "/login/_private/complete",
                **(grant or {"grant_type": "refresh_token", "refresh_token": auth.refresh_token}),
            },
            timeout=settings.EDX_API_CLIENT_TIMEOUT,
        )
        answer.raise_for_status()
        tokens = answer.json()
        auth = auth or OpenEdxApiAuth(user=user)
        auth.refresh_token = tokens["refresh_token"]
        auth.access_token = tokens["access_token"]
        auth.access_token_expires_on = timezone.now() + timedelta(seconds=tokens["expires_in"])
        auth.save()
        return auth


def repair_faulty_edx_user(user):
    """Creates the user's LMS account and LMS tokens if they are missing. Returns two booleans:
    whether the account was created, and whether the tokens were."""
    created = create_edx_user(user)
    if OpenEdxApiAuth.objects.filter(user=user).exists():
        return created, False
    create_edx_auth_token(user)
    return created, True


def enroll_in_edx(enrollment):
    """Enrolls the learner in the LMS. Raises httpx.HTTPStatusError if the LMS refuses."""
    answer = httpx.post(
        settings.OPENEDX_API_BASE_URL + "/api/enrollment/v1/enrollment",
        json={
            "user": enrollment.user.username,
            "mode": MODE,
            "is_active": True,
            "force_enrollment": True,
            "course_details": {"course_id": enrollment.run.courseware_id},
        },
        headers={"Authorization": f"Bearer {settings.OPENEDX_SERVICE_WORKER_API_TOKEN}"},
        timeout=settings.EDX_API_CLIENT_TIMEOUT,
    )
    answer.raise_for_status()


def retry_failed_edx_enrollments():
    """Sends each enrollment that is older than five minutes and not yet in the LMS, of an active
    user in a live run. Refusals are not recorded, so every call tries again."""
    from courses.models import CourseRunEnrollment

    for enrollment in CourseRunEnrollment.objects.select_related("user", "run").filter(
        user__is_active=True,
        edx_enrolled=False,
        created_on__lt=timezone.now() - timedelta(minutes=5),
        run__live=True,
    ):
        try:
            enroll_in_edx(enrollment)
        except httpx.HTTPStatusError:
            continue
        enrollment.edx_enrolled = True
        enrollment.save_and_log(acting_user=None)
