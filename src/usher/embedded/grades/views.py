"""``/api/grades/v1/courses/``: course grades."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from edx_rest_framework_extensions.permissions import JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.pagination import CursorPagination
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.core.errors import ApiError, DeveloperErrorMixin
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.grades.models import PersistentCourseGrade
from usher.embedded.student.models import CourseEnrollment


class GradesPagination(CursorPagination):
    ordering = "id"
    page_size = 50
    page_size_query_param = "page_size"


def _grade_fields(
    user: User, mode: str, key: CourseKey, grade: PersistentCourseGrade | None
) -> Any:
    """One grade as the API returns it. mode: the learner's enrollment mode; the e-mail address is
    included only for ``masters``. grade: None for a learner without a stored grade, who has zero
    percent."""
    return {
        "username": user.username,
        "email": user.email if mode == "masters" else "",
        "course_id": str(key),
        "passed": bool(grade and grade.passed_timestamp),
        "percent": grade.percent_grade if grade else 0.0,
        "letter_grade": (grade.letter_grade or None) if grade else None,
    }


class CourseGradesView(DeveloperErrorMixin, APIView):
    """The grades of all learners of a run, page by page, or the grade of ``username``."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS,)
    required_scopes = ("grades:read",)

    def perform_authentication(self, request: Any) -> None:
        super().perform_authentication(request)
        if request.user.is_anonymous:
            raise AuthenticationFailed

    def get(self, request: Any, course_id: str | None = None) -> Response:
        key = self._existing_run_key(course_id or request.GET.get("course_id", ""))
        username = request.GET.get("username")
        if username:
            return Response([self._grade_of_learner(username, key)])
        return self._page_of_grades(request, key)

    def _existing_run_key(self, text: str) -> CourseKey:
        try:
            key = CourseKey.from_string(text)
        except InvalidKeyError as error:
            raise ApiError(
                404, "The provided course key cannot be parsed.", code="invalid_course_key"
            ) from error
        if not CourseOverview.course_exists(key):
            raise ApiError(
                404, f"Requested grade for unknown course {key}", code="course_does_not_exist"
            )
        return key

    def _grade_of_learner(self, username: str, key: CourseKey) -> Any:
        user = User.objects.filter(username=username).first()
        if user is None:
            raise ApiError(
                404,
                "The user matching the requested username does not exist.",
                code="user_does_not_exist",
            )
        if CourseEnrollment.get_enrollment(user, key) is None:
            raise ApiError(
                404,
                "The user matching the requested username is not enrolled in this course",
                code="user_not_enrolled",
            )
        grade = PersistentCourseGrade.objects.filter(user_id=user.pk, course_id=key).first()
        # As on the platform, a request for one learner never returns the e-mail address.
        return _grade_fields(user, mode="", key=key, grade=grade)

    def _page_of_grades(self, request: Any, key: CourseKey) -> Response:
        """A page of learners' grades. The page is empty if runs have no content, because then no
        grade can be computed."""
        pagination = GradesPagination()
        enrollments = CourseEnrollment.objects.filter(course_id=key, is_active=True)
        page = (
            pagination.paginate_queryset(enrollments.select_related("user"), request, view=self)
            or []
        )
        grades = {
            grade.user_id: grade
            for grade in PersistentCourseGrade.objects.filter(
                course_id=key, user_id__in=[enrollment.user_id for enrollment in page]
            )
        }
        return pagination.get_paginated_response(
            [
                _grade_fields(enrollment.user, enrollment.mode, key, grades.get(enrollment.user_id))
                for enrollment in page
                if settings.EMBEDDED_RUNS_HAVE_CONTENT
            ]
        )
