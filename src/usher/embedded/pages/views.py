"""Pages for people, and the heartbeat for monitoring."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import ensure_csrf_cookie
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from waffle import flag_is_active

from usher.embedded.core.requests import SignedInRequest
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student.models import CourseEnrollment
from usher.embedded.student.services import has_staff_access

#: The course page has no further pages; runs after these are not listed.
MAX_LISTED_RUNS = 200


def index(request: HttpRequest) -> HttpResponse:
    return redirect("dashboard" if request.user.is_authenticated else "courses")


@login_required
@ensure_csrf_cookie
def dashboard(request: SignedInRequest) -> HttpResponse:
    """The user's enrollments, newest first. If the platform's waffle flag for the learner-home
    micro-frontend is on, redirects there; Tutor's plugin for micro-frontends sets this flag."""
    home = settings.LEARNER_HOME_MICROFRONTEND_URL
    if home and flag_is_active(request, "learner_home_mfe.enabled"):
        return redirect(home)
    enrollments = (
        CourseEnrollment.objects.select_related("course")
        .filter(user=request.user, is_active=True)
        .order_by("-created")
    )
    return render(
        request, "pages/dashboard.html", {"enrollments": enrollments, "title": "Dashboard"}
    )


@ensure_csrf_cookie
def courses(request: HttpRequest) -> HttpResponse:
    if not settings.FEATURES.get("COURSES_ARE_BROWSABLE", True):
        raise Http404
    runs = CourseOverview.get_all_courses(filter_={"catalog_visibility": "both"})
    return render(
        request, "pages/courses.html", {"runs": runs[:MAX_LISTED_RUNS], "title": "Courses"}
    )


def _get_run(course_id: str) -> CourseOverview:
    try:
        return CourseOverview.get_from_id(CourseKey.from_string(course_id))
    except (InvalidKeyError, CourseOverview.DoesNotExist) as error:
        raise Http404("Course not found.") from error


@ensure_csrf_cookie
def about(request: HttpRequest, course_id: str) -> HttpResponse:
    course_run = _get_run(course_id)
    return render(
        request,
        "pages/about.html",
        {"run": course_run, "title": course_run.display_name_with_default},
    )


@login_required
@ensure_csrf_cookie
def run(request: SignedInRequest, course_id: str) -> HttpResponse:
    """The home page of a run for enrolled learners and staff; everybody else is redirected
    to the run's about page."""
    course_run = _get_run(course_id)
    if not settings.EMBEDDED_RUNS_HAVE_CONTENT:
        # The platform must load a course's content to show its home page.
        raise Http404("Course not found.")
    enrollment = CourseEnrollment.get_enrollment(request.user, course_run.id)
    enrolled = enrollment is not None and enrollment.is_active
    if not enrolled and not has_staff_access(request.user, course_run.id):
        return redirect("about_course", course_id=course_id)
    context = {
        "run": course_run,
        "enrollment": enrollment,
        "title": course_run.display_name_with_default,
    }
    return render(request, "pages/run.html", context)


@login_required
@ensure_csrf_cookie
def account_settings(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/account.html", {"title": "Account Settings"})


def heartbeat(request: HttpRequest) -> HttpResponse:
    """200 while the database answers, else 503."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        status, message = True, "OK"
    except Exception as error:  # noqa: BLE001 - after any error the LMS is unhealthy
        status, message = False, str(error)
    body = {"sql": {"status": status, "message": message}}
    return JsonResponse(body, status=200 if status else 503)
