from django.urls import path, register_converter
from drf_spectacular.views import SpectacularAPIView

from usher.application.api import views


class CourseKeyConverter:
    """A course key, such as ``course-v1:edX+DemoX+2026`` or ``edX/DemoX/2026``. Any text matches,
    except control characters, since databases reject them."""

    regex = r"[^\x00-\x1f\x7f]{1,255}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(CourseKeyConverter, "course_key")

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="usher-api-schema"),
    path("v1/me/", views.MeView.as_view(), name="usher-api-me"),
    path("v1/course-runs/", views.CourseRunsView.as_view(), name="usher-api-runs"),
    path(
        "v1/course-runs/<course_key:course_key>/",
        views.CourseRunView.as_view(),
        name="usher-api-run",
    ),
    path("v1/enrollments/", views.EnrollmentsView.as_view(), name="usher-api-enrollments"),
    path(
        "v1/enrollments/<course_key:course_key>/",
        views.EnrollmentView.as_view(),
        name="usher-api-enrollment",
    ),
]
