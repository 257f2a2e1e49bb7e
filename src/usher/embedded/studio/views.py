"""``/api/v1/course_runs/``: Studio's API of course runs (``cms/djangoapps/api/v1/views``).

A real Studio has its own address; here the API is at the LMS's address.
"""

from typing import Any

from django.conf import settings
from django.http import Http404
from opaque_keys.edx.keys import CourseKey
from rest_framework import permissions, status, viewsets
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter

from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.studio.serializers import (
    CloneSerializer,
    CourseRunCreateSerializer,
    CourseRunSerializer,
)


class CourseRunViewSet(viewsets.GenericViewSet[CourseOverview]):
    """Studio's API of course runs, for staff: list, read, create, change, and copy with
    ``clone``."""

    lookup_value_regex = settings.COURSE_KEY_PATTERN.replace("P<course_key_string>", ":")
    permission_classes = (permissions.IsAdminUser,)
    serializer_class = CourseRunSerializer
    queryset = CourseOverview.objects.order_by("created", "id")

    def get_object(self) -> CourseOverview:
        run = CourseOverview.objects.filter(id=CourseKey.from_string(self.kwargs["pk"])).first()
        if run is None:
            raise Http404
        return run

    def list(self, request: Any) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Any, pk: str) -> Response:
        return Response(self.get_serializer(self.get_object()).data)

    def update(self, request: Any, pk: str, *, partial: bool = False) -> Response:
        serializer = self.get_serializer(self.get_object(), data=request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data)

    def partial_update(self, request: Any, pk: str) -> Response:
        return self.update(request, pk, partial=True)

    def create(self, request: Any) -> Response:
        serializer = CourseRunCreateSerializer(
            data=request.data, context=self.get_serializer_context()
        )
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response(serializer.data, status=status.HTTP_201_CREATED)

    @action(detail=False, methods=["post"])
    def clone(self, request: Any) -> Response:
        serializer = CloneSerializer(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        serializer.save()
        return Response({"message": "Course cloned successfully."}, status=status.HTTP_201_CREATED)


router = DefaultRouter()
router.include_root_view = False
router.register("course_runs", CourseRunViewSet, basename="course_run")
