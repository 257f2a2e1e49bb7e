"""``/api/course_modes/v1/courses/<run>/``: staff read and change the modes of a run."""

from typing import Any

from django.shortcuts import get_object_or_404
from edx_rest_framework_extensions.permissions import JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS
from opaque_keys.edx.keys import CourseKey
from rest_framework import serializers
from rest_framework.generics import ListCreateAPIView, RetrieveUpdateDestroyAPIView
from rest_framework.response import Response

from usher.embedded.core.authentication import API_AUTHENTICATION
from usher.embedded.core.parsers import MergePatchParser
from usher.embedded.course_modes.models import CourseMode
from usher.embedded.course_overviews.models import CourseOverview


class CourseModeSerializer(serializers.Serializer[CourseMode]):
    course_id = serializers.CharField()
    mode_slug = serializers.CharField()
    mode_display_name = serializers.CharField()
    min_price = serializers.IntegerField(required=False)
    currency = serializers.CharField()
    expiration_datetime = serializers.DateTimeField(required=False)
    expiration_datetime_is_explicit = serializers.BooleanField(required=False)
    description = serializers.CharField(required=False)
    sku = serializers.CharField(required=False)
    bulk_sku = serializers.CharField(required=False)

    def create(self, data: dict[str, Any]) -> CourseMode:
        run = CourseOverview.get_from_id(CourseKey.from_string(data.pop("course_id")))
        return CourseMode.objects.create(course=run, **data)

    def update(self, mode: CourseMode, data: dict[str, Any]) -> CourseMode:
        unchangeable = {name for name in ("course_id", "mode_slug") if name in data}
        if unchangeable:
            raise serializers.ValidationError(
                {name: ["This field cannot be modified."] for name in sorted(unchangeable)}
            )
        for name, value in data.items():
            setattr(mode, name, value)
        mode.save()
        return mode


class _Modes:
    authentication_classes = API_AUTHENTICATION
    permission_classes = (JWT_RESTRICTED_APPLICATION_OR_USER_ACCESS,)
    required_scopes = ("course_modes:read",)
    serializer_class = CourseModeSerializer
    pagination_class = None


class CourseModesView(_Modes, ListCreateAPIView[CourseMode]):
    """The modes of one run; ``POST`` adds one."""

    def get_queryset(self) -> Any:
        key = CourseKey.from_string(self.kwargs["course_id"])
        return CourseMode.objects.filter(course_id=key).order_by("id")


class CourseModeView(_Modes, RetrieveUpdateDestroyAPIView[CourseMode]):
    """One mode of one run: read, change or delete it."""

    http_method_names = ("get", "patch", "delete", "head", "options")
    parser_classes = (MergePatchParser,)

    def get_object(self) -> CourseMode:
        key = CourseKey.from_string(self.kwargs["course_id"])
        return get_object_or_404(CourseMode, course_id=key, mode_slug=self.kwargs["mode_slug"])

    def patch(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(status=204, content_type="application/json")
