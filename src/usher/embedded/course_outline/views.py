"""``/api/ol-course-outline/v0/COURSE/``: MIT's plugin ``ol-openedx-course-outline-api``."""

from typing import Any

from django.utils import timezone
from edx_rest_framework_extensions.auth.jwt.authentication import JwtAuthentication
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import IsAdminUser
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.authentication import BearerAuthentication
from usher.embedded.core.errors import ApiError, DeveloperErrorMixin
from usher.embedded.course_overviews.models import CourseOverview


class CourseOutlineView(DeveloperErrorMixin, APIView):
    """The outline of a run, for staff. Always without modules, because runs have no content
    here."""

    http_method_names = ("get",)
    permission_classes = (IsAdminUser,)
    authentication_classes = (JwtAuthentication, BearerAuthentication, SessionAuthentication)

    def get(self, request: Any, course_id: str) -> Response:
        try:
            key = CourseKey.from_string(course_id)
        except InvalidKeyError as error:
            message = "The provided course key cannot be parsed."
            raise ApiError(404, message, code="invalid_course_key") from error
        if not CourseOverview.course_exists(key):
            raise ApiError(404, f"Unknown course {key}", code="course_does_not_exist")
        now = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        return Response({"course_id": str(key), "generated_at": now, "modules": []})
