"""``/api/enrollment/v1/``."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import ensure_csrf_cookie
from opaque_keys.edx.keys import CourseKey
from rest_framework.generics import ListAPIView
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.core.errors import DeveloperErrorMixin
from usher.embedded.core.limits import StaffAwareThrottle
from usher.embedded.enrollments import errors, requests, services
from usher.embedded.enrollments.forms import EnrollmentsForm
from usher.embedded.enrollments.serializers import CourseEnrollmentsApiListSerializer
from usher.embedded.student.models import CourseAccessRole, CourseEnrollment


class EnrollmentThrottle(StaffAwareThrottle):
    family = "enrollment"


class _EnrollmentApi(APIView):
    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAuthenticated,)
    throttle_classes = (EnrollmentThrottle,)


class EnrollmentView(_EnrollmentApi):
    """``GET``: one enrollment; an empty body if there is none."""

    @method_decorator(ensure_csrf_cookie)
    def get(self, request: Any, course_id: str, username: str | None = None) -> Response:
        username = username or request.user.username
        if request.user.username != username and not request.user.is_staff:
            return Response(status=404)
        return Response(services.get_enrollment(username, CourseKey.from_string(course_id)))


class EnrollmentListView(_EnrollmentApi):
    """``GET``: the user's own enrollments, or those of ``user``. ``POST``: enroll, change the
    mode, or unenroll."""

    @method_decorator(ensure_csrf_cookie)
    def get(self, request: Any) -> Response:
        username = request.GET.get("user", request.user.username)
        enrollments = services.get_enrollments(username)
        requester = request.user
        if username == requester.username or requester.is_staff:
            return Response(enrollments)
        # Staff of a course see the enrollments of others in this course.
        staff_roles = CourseAccessRole.objects.filter(user=requester, role="staff")
        keys = {str(key) for key in staff_roles.values_list("course_id", flat=True)}
        return Response(
            [
                enrollment
                for enrollment in enrollments
                if enrollment["course_details"]["course_id"] in keys
            ]
        )

    def post(self, request: Any) -> Response:
        try:
            requested = requests.validate(request.data, request.user)
            return Response(requests.apply(requested))
        except requests.Refused as refused:
            return refused.response()


class EnrollmentCourseDetailView(APIView):
    """A run with its modes; no authentication needed."""

    authentication_classes = ()
    permission_classes = ()
    throttle_classes = (EnrollmentThrottle,)

    def get(self, request: Any, course_id: str) -> Response:
        include_expired = bool(request.GET.get("include_expired", ""))
        try:
            key = CourseKey.from_string(course_id)
            return Response(services.course_details(key, include_expired=include_expired))
        except errors.CourseNotFoundError:
            return Response({"message": f"No course found for course ID '{course_id}'"}, status=400)


class EnrollmentsPagination(CursorPagination):
    # ``ordering`` is the base class's: ``-created``.
    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 100
    page_query_param = "page"


class EnrollmentsView(DeveloperErrorMixin, ListAPIView[CourseEnrollment]):
    """All enrollments, newest first, for staff."""

    authentication_classes = API_AUTHENTICATION
    permission_classes = (IsAdminUser,)
    throttle_classes = (EnrollmentThrottle,)
    serializer_class = CourseEnrollmentsApiListSerializer
    pagination_class = EnrollmentsPagination

    def get_queryset(self) -> Any:
        form = EnrollmentsForm(self.request.query_params)
        if not form.is_valid():
            raise ValidationError(form.errors.as_data())
        form_data = form.cleaned_data
        enrollments = CourseEnrollment.objects.select_related("user", "course")
        if form_data["course_id"]:
            enrollments = enrollments.filter(course_id=form_data["course_id"])
        if form_data["course_ids"]:
            # A part of a key selects every run whose key contains it.
            condition = Q()
            for part in form_data["course_ids"]:
                condition |= Q(course__id__icontains=part)
            enrollments = enrollments.filter(condition)
        if form_data["username"]:
            enrollments = enrollments.filter(user__username__in=form_data["username"])
        if form_data["email"]:
            enrollments = enrollments.filter(user__email__in=form_data["email"])
        return enrollments


class UserRolesView(_EnrollmentApi):
    """The user's course roles, of all runs or of ``course_id``."""

    def get(self, request: Any) -> Response:
        roles = CourseAccessRole.objects.filter(user=request.user)
        course_id = request.GET.get("course_id")
        selected_roles = [
            role for role in roles if not course_id or str(role.course_id) == course_id
        ]
        return Response(
            {
                "roles": [
                    {"org": role.org, "course_id": str(role.course_id), "role": role.role}
                    for role in selected_roles
                ],
                "is_staff": request.user.is_staff,
            }
        )
