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
    """``GET``: one enrollment; ``null`` when there is none."""

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
        found = services.get_enrollments(username)
        asks = request.user
        if username == asks.username or asks.is_staff:
            return Response(found)
        taught = CourseAccessRole.objects.filter(user=asks, role="staff")
        keys = {str(key) for key in taught.values_list("course_id", flat=True)}
        return Response([one for one in found if one["course_details"]["course_id"] in keys])

    def post(self, request: Any) -> Response:
        try:
            wish = requests.read(request.data, request.user)
            return Response(requests.fulfil(wish))
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
            return Response(services.course_details(key, include_expired))
        except errors.CourseNotFoundError:
            return Response({"message": f"No course found for course ID '{course_id}'"}, status=400)


class EnrollmentsPagination(CursorPagination):
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
        asked = form.cleaned_data
        found = CourseEnrollment.objects.select_related("user", "course")
        if asked["course_id"]:
            found = found.filter(course_id=asked["course_id"])
        if asked["course_ids"]:
            wanted = Q()
            for part in asked["course_ids"]:
                wanted |= Q(course__id__icontains=part)
            found = found.filter(wanted)
        if asked["username"]:
            found = found.filter(user__username__in=asked["username"])
        if asked["email"]:
            found = found.filter(user__email__in=asked["email"])
        return found


class UserRolesView(_EnrollmentApi):
    def get(self, request: Any) -> Response:
        roles = CourseAccessRole.objects.filter(user=request.user)
        course_id = request.GET.get("course_id")
        shown = [one for one in roles if not course_id or str(one.course_id) == course_id]
        return Response(
            {
                "roles": [
                    {"org": one.org, "course_id": str(one.course_id), "role": one.role}
                    for one in shown
                ],
                "is_staff": request.user.is_staff,
            }
        )
