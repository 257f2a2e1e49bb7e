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
from django.utils.text import slugify
from oauth2_provider.models import AccessToken, Application

from main.utils import get_redis_lock
from openedx.models import OpenEdxApiAuth, OpenEdxUser

MAX_RETRIES = 5
USERNAME_MAX_LENGTH = 30
#: Length of a taken username in front of the number that distinguishes the new one.
LENGTH_BEFORE_NUMBER = 26


def reconcile_edx_username(user, *, desired_username=None):
    """Chooses the user's LMS username if there is none yet. Returns whether a username was
    chosen."""
    edx_user, _ = OpenEdxUser.objects.get_or_create(platform="edx", user=user)
    if edx_user.edx_username:
        return False
    # An e-mail address is no username for the LMS.
    own_username = "" if "@" in user.username else user.username
    mailbox = user.email.split("@")[0]
    name = desired_username or own_username or slugify(user.name) or slugify(mailbox)
    name = name[:USERNAME_MAX_LENGTH]
    free_name, number = name, 1
    while OpenEdxUser.objects.filter(edx_username=free_name).exists():
        free_name, number = f"{name[:LENGTH_BEFORE_NUMBER]}{number}", number + 1
    edx_user.edx_username = edx_user.desired_edx_username = free_name
    edx_user.save()
    return True


def create_edx_user(user):
    """Creates the user's LMS account. Returns whether it was created: not if it exists, if the LMS
    refuses it, or if another process creates it now."""
    application = Application.objects.get(name=settings.OPENEDX_OAUTH_APP_NAME)
    expires = timezone.now() + timedelta(hours=settings.OPENEDX_TOKEN_EXPIRES_HOURS)
    token = AccessToken.objects.create(
        user=user,
        application=application,
        token=get_random_string(40),
        expires=expires,
        scope="user:read",
    )
    reconcile_edx_username(user)
    lock = get_redis_lock(f"openedx-create-user-lock.{user.global_id}", expire=120)
    if not lock.acquire(timeout=5):
        return False
    try:
        return register(user, token.token)
    finally:
        lock.release()


def register(user, token):
    """Registers the LMS account. token: the access token that the LMS sends back to learn who the
    user is. Returns whether the account was created; the reason for which the LMS refuses it is
    stored. Raises httpx.HTTPStatusError if the LMS fails."""
    edx_user = user.openedx_users.get()
    if edx_user.has_been_synced:
        return False
    answer = httpx.post(
        settings.OPENEDX_API_BASE_URL + "/user_api/v1/account/registration/",
        data={
            "username": edx_user.edx_username,
            "email": user.email,
            "name": user.name or edx_user.edx_username,
            "country": user.legal_address.country or "US",
            "honor_code": "true",
            "provider": settings.OPENEDX_OAUTH_PROVIDER,
            "access_token": token,
        },
        timeout=settings.EDX_API_CLIENT_TIMEOUT,
    )
    if answer.status_code == 200:
        edx_user.has_been_synced = True
    elif answer.status_code in (400, 409):
        edx_user.has_sync_error, edx_user.sync_error_data = True, answer.json()
    else:
        answer.raise_for_status()
    edx_user.save()
    return edx_user.has_been_synced


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
            "user": enrollment.user.edx_username,
            "mode": enrollment.enrollment_mode,
            "is_active": True,
            "force_enrollment": True,
            "course_details": {"course_id": enrollment.run.courseware_id},
        },
        headers={"Authorization": f"Bearer {settings.OPENEDX_SERVICE_WORKER_API_TOKEN}"},
        timeout=settings.EDX_API_CLIENT_TIMEOUT,
    )
    answer.raise_for_status()


def retry_failed_edx_enrollments():
    """Sends each enrollment of an active user that is older than five minutes and not yet in the
    LMS. Refusals are counted; after MAX_RETRIES of them the enrollment is given up."""
    from courses.models import CourseRunEnrollment

    enrollments = CourseRunEnrollment.objects.select_related("user", "run").filter(
        user__is_active=True,
        edx_enrolled=False,
        created_on__lt=timezone.now() - timedelta(minutes=5),
        edx_enrollment_retry_count__lt=MAX_RETRIES,
    )
    for enrollment in enrollments:
        try:
            enroll_in_edx(enrollment)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            is_refusal = status < 500 and status != 429
            if is_refusal:
                enrollment.edx_enrollment_retry_count += 1
                enrollment.save(update_fields=["edx_enrollment_retry_count"])
        else:
            enrollment.edx_enrolled = True
            enrollment.save_and_log(acting_user=None)
