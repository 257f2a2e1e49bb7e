"""Initial data of an LMS: required records, example courses, and many courses for load tests."""

import secrets
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sites.models import Site
from django.db import transaction
from oauth2_provider.models import get_application_model
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_modes.models import CourseMode
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student.models import UserProfile
from usher.embedded.user_api.retirement import populate_states

LOGIN_SERVICE_USER = "login_service_user"
#: Price of the mode verified, in USD.
VERIFIED_PRICE = 49
#: The dates of the first run that ``create_load_runs`` creates.
_FIRST_LOAD_DATES = {
    "start": datetime(2026, 1, 1, tzinfo=UTC),
    "end": datetime(2027, 1, 1, tzinfo=UTC),
    "enrollment_start": datetime(2025, 6, 1, tzinfo=UTC),
    "enrollment_end": datetime(2026, 12, 1, tzinfo=UTC),
}


def create_person(
    username: str,
    email: str,
    password: str = "",
    *,
    name: str = "",
    active: bool = True,
    staff: bool = False,
    superuser: bool = False,
) -> User:
    """Create a user with a profile. If a user with this username exists, set only its rights,
    whether it is active and, unless ``password`` is '', its password. password: '' for a random
    password of a new user. name: '' for the username."""
    user, created = User.objects.get_or_create(username=username, defaults={"email": email})
    user.is_active, user.is_staff, user.is_superuser = active, staff or superuser, superuser
    if created or password:
        user.set_password(password or secrets.token_urlsafe(32))
    user.save()
    UserProfile.objects.get_or_create(user=user, defaults={"name": name or username})
    return user


@transaction.atomic
def create_required_records() -> None:
    """Create the records an LMS requires: the site of SITE_ID, the OAuth client for sign-in
    cookies, and the retirement states (which a new Open edX does not have)."""
    Site.objects.update_or_create(
        id=settings.SITE_ID, defaults={"domain": settings.LMS_BASE, "name": settings.LMS_BASE[:50]}
    )
    # Created after the renaming above: in a new database, the site of SITE_ID has this domain until
    # then, and two sites can't have the same domain.
    Site.objects.get_or_create(id=1, defaults={"domain": "example.com", "name": "example.com"})
    service_user = User.objects.filter(username=LOGIN_SERVICE_USER).first() or create_person(
        LOGIN_SERVICE_USER, "login_service_user@fake.email"
    )
    applications = get_application_model()
    applications.objects.get_or_create(
        client_id=settings.JWT_AUTH["JWT_LOGIN_CLIENT_ID"],
        defaults={
            "name": "Login Service for JWT Cookies",
            "user": service_user,
            "client_type": applications.CLIENT_PUBLIC,
            "authorization_grant_type": applications.GRANT_PASSWORD,
            "redirect_uris": "",
        },
    )
    populate_states()


def _parse_day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def create_run(
    key: str,
    title: str,
    *,
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    enrollment_start: str | datetime | None = None,
    enrollment_end: str | datetime | None = None,
) -> CourseOverview:
    """Create or update a run, new ones self-paced, and create its modes audit and verified (49 USD)
    if they are missing. A date as text, such as ``2026-01-31``, is the beginning of that day in
    UTC."""
    dates = {
        "start": start,
        "end": end,
        "enrollment_start": enrollment_start,
        "enrollment_end": enrollment_end,
    }
    moments = {
        field: _parse_day(date) if isinstance(date, str) else date for field, date in dates.items()
    }
    overview, _ = CourseOverview.objects.update_or_create(
        id=CourseKey.from_string(key), defaults={"display_name": title, **moments}
    )
    for slug, name, price in (("audit", "Audit", 0), ("verified", "Verified", VERIFIED_PRICE)):
        CourseMode.objects.get_or_create(
            course=overview,
            mode_slug=slug,
            currency="usd",
            defaults={"mode_display_name": name, "min_price": price},
        )
    return overview


DEMO_RUN = "course-v1:edX+DemoX+Demo_Course"
E2E_RUN = "course-v1:edX+E2E-101+course"


@transaction.atomic
def create_courses() -> int:
    """Create the demonstration course and the E2E test course. Returns the number of runs, 2."""
    create_run(DEMO_RUN, "Demonstration Course", start="2013-02-05")
    create_run(
        E2E_RUN,
        "E2E Test Course",
        start="2016-01-01",
        end="2030-01-01",
        enrollment_start="2015-01-01",
        enrollment_end="2029-12-31",
    )
    return 2


@transaction.atomic
def create_load_runs(runs: int) -> int:
    """Create ``runs`` course runs: ``course-v1:LoadX+C0000+2026_T1``, ``…C0001+2026_T1`` and so on.
    Each run starts a day later than the previous run. Returns ``runs``."""
    overviews, modes = [], []
    for number in range(runs):
        org, course = "LoadX", f"C{number:04d}"
        key = CourseKey.from_string(f"course-v1:{org}+{course}+2026_T1")
        dates = {field: date + timedelta(days=number) for field, date in _FIRST_LOAD_DATES.items()}
        # With the columns that ``save`` derives from the key, because ``bulk_create`` skips it.
        overviews.append(
            CourseOverview(
                id=key,
                _location=key.make_usage_key("course", "course"),
                org=org,
                display_org_with_default=org,
                display_number_with_default=course,
                display_name=f"Load Course {number}",
                **dates,
            )
        )
        modes += [
            CourseMode(course_id=key, mode_slug="audit", mode_display_name="Audit"),
            CourseMode(
                course_id=key,
                mode_slug="verified",
                mode_display_name="Verified",
                min_price=VERIFIED_PRICE,
            ),
        ]
    CourseOverview.objects.bulk_create(overviews, ignore_conflicts=True, batch_size=500)
    CourseMode.objects.bulk_create(modes, ignore_conflicts=True, batch_size=500)
    return runs
