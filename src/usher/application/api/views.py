"""``/api/v1/``: for an integrator's own pages, authenticated by the visitor's session."""

from typing import Any, ClassVar

from django.db.models import Prefetch, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import exceptions, generics, permissions, status
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.application.adapter import AdapterFailed, log_failure
from usher.application.api import serializers
from usher.application.api.pagination import Pages
from usher.application.api.parsers import JsonParser
from usher.application.enrollments.models import DEFAULT_MODE, Enrollment
from usher.application.enrollments.modes import free_modes
from usher.application.enrollments.services import ModeNotAllowed, NotEnrolled, enroll, unenroll
from usher.application.runs.models import CourseMode, CourseRun


class NotEnrollable(exceptions.APIException):
    status_code = status.HTTP_409_CONFLICT
    default_detail = "This run does not accept enrollments in this mode now."
    default_code = "not-enrollable"


class Unavailable(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = (
        "The application can't find out now which modes you may have; its log has the reason."
    )
    default_code = "unavailable"


class ApiView:
    """Base of all views of this API. Its settings replace the project's own ``REST_FRAMEWORK``."""

    authentication_classes = [SessionAuthentication]
    permission_classes: ClassVar[list[Any]] = [permissions.IsAuthenticated]
    parser_classes: ClassVar[list[Any]] = [JsonParser]
    pagination_class = Pages
    schema = AutoSchema()


class MeView(ApiView, APIView):
    @extend_schema(responses=serializers.MeSerializer, operation_id="me")
    def get(self, request: Request) -> Response:
        """The signed-in user."""
        return Response(serializers.MeSerializer(request.user).data)


def offered_runs() -> QuerySet[CourseRun]:
    """Runs that are live and not hidden, and that the LMS has."""
    modes = Prefetch("modes", CourseMode.objects.order_by("min_price", "id"))
    return CourseRun.objects.filter(live=True, missing_since=None, hidden=False).prefetch_related(
        modes
    )


class CourseRunsView(ApiView, generics.ListAPIView[CourseRun]):
    """Runs that are offered."""

    permission_classes = [permissions.AllowAny]
    serializer_class = serializers.CourseRunSerializer
    queryset = offered_runs()


class CourseRunView(ApiView, generics.RetrieveAPIView[CourseRun]):
    """One run."""

    permission_classes = [permissions.AllowAny]
    serializer_class = serializers.CourseRunSerializer
    queryset = offered_runs()
    lookup_field = "course_key"


class EnrollmentsView(ApiView, generics.ListAPIView[Enrollment]):
    """My enrollments."""

    serializer_class = serializers.EnrollmentSerializer

    def get_queryset(self) -> QuerySet[Enrollment]:
        if not self.request.user.is_authenticated:  # the schema is generated without a visitor
            return Enrollment.objects.none()
        return own_enrollments(self.request.user)

    @extend_schema(
        request=serializers.EnrollSerializer,
        responses={
            201: serializers.EnrollmentSerializer,
            404: OpenApiResponse(description="There is no such run."),
            409: OpenApiResponse(description="The run accepts no enrollments in that mode now."),
            503: OpenApiResponse(description="USHER_ADAPTER failed for this learner's modes."),
        },
    )
    def post(self, request: Request) -> Response:
        """Enroll me. A repeated request changes nothing."""
        form = serializers.EnrollSerializer(data=request.data)
        form.is_valid(raise_exception=True)
        run = get_object_or_404(offered_runs(), course_key=form.validated_data["course_key"])
        mode = form.validated_data["mode"]
        if not run.is_enrollable() or not is_free(run, mode):
            raise NotEnrollable
        try:
            enrollment = enroll(request.user, run, mode)
        except ModeNotAllowed as error:
            raise NotEnrollable from error
        except AdapterFailed as error:
            log_failure(error)
            raise Unavailable from error
        serializer = serializers.EnrollmentSerializer(enrollment)
        return Response(serializer.data, status=status.HTTP_201_CREATED)


class EnrollmentView(ApiView, generics.RetrieveAPIView[Enrollment]):
    """My enrollment in one run."""

    serializer_class = serializers.EnrollmentSerializer
    lookup_field = "run__course_key"
    lookup_url_kwarg = "course_key"

    def get_queryset(self) -> QuerySet[Enrollment]:
        if not self.request.user.is_authenticated:  # as in ``EnrollmentsView``
            return Enrollment.objects.none()
        return own_enrollments(self.request.user)

    @extend_schema(
        responses={204: None, 404: OpenApiResponse(description="You are not enrolled there.")}
    )
    def delete(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Unenroll me."""
        enrollment = self.get_object()
        try:
            unenroll(request.user, enrollment.run)
        except NotEnrolled as error:
            raise exceptions.NotFound from error
        return Response(status=status.HTTP_204_NO_CONTENT)


def own_enrollments(user: Any) -> QuerySet[Enrollment]:
    rows = Enrollment.objects.filter(user=user, is_active=True)
    return rows.select_related("run", "user__lms_account")


def is_free(run: CourseRun, mode: str) -> bool:
    """Whether a learner may choose that mode without paying. Paid modes are set by staff or by the
    project's shop."""
    if not mode:
        return True  # enroll() chooses a free mode
    if not run.modes.all():
        return mode == DEFAULT_MODE
    return mode in free_modes(run)
