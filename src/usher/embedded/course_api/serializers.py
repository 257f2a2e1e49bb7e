"""Serializers of course runs in the course API."""

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from rest_framework import serializers

from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student.models import CourseEnrollment


class CourseSerializer(serializers.Serializer[CourseOverview]):
    """Times are ISO 8601 in UTC; ``hidden`` means that the run is in no catalog."""

    blocks_url = serializers.SerializerMethodField()
    effort = serializers.CharField()
    end = serializers.DateTimeField()
    enrollment_start = serializers.DateTimeField()
    enrollment_end = serializers.DateTimeField()
    id = serializers.CharField()
    media = serializers.SerializerMethodField()
    name = serializers.CharField(source="display_name_with_default_escaped")
    number = serializers.CharField(source="display_number_with_default")
    org = serializers.CharField(source="display_org_with_default")
    short_description = serializers.CharField()
    start = serializers.DateTimeField()
    start_display = serializers.CharField()
    start_type = serializers.CharField()
    pacing = serializers.CharField()
    mobile_available = serializers.BooleanField()
    hidden = serializers.SerializerMethodField()
    invitation_only = serializers.BooleanField()
    course_id = serializers.CharField(source="id")

    def _absolute_url(self, path: str) -> str:
        return str(self.context["request"].build_absolute_uri(path)) if path else ""

    def get_blocks_url(self, run: CourseOverview) -> str:
        return self._absolute_url(f"/api/courses/v2/blocks/?{urlencode({'course_id': run.id})}")

    def get_hidden(self, run: CourseOverview) -> bool:
        return run.catalog_visibility in {"about", "none"}

    def get_media(self, run: CourseOverview) -> dict[str, Any]:
        return {
            "banner_image": {
                "uri": run.banner_image_url,
                "uri_absolute": self._absolute_url(run.banner_image_url),
            },
            "course_image": {"uri": run.course_image_url},
            "course_video": {"uri": run.course_video_url},
            "image": {name: self._absolute_url(url) for name, url in run.image_urls.items()},
        }


class CourseDetailSerializer(CourseSerializer):
    overview = serializers.SerializerMethodField()

    def get_overview(self, run: CourseOverview) -> None:
        """Always empty: runs have no content here."""
        return

    def to_representation(self, run: CourseOverview) -> dict[str, Any]:
        """Adds ``is_enrolled`` if the request names a user, and the requester is that user or
        staff."""
        answer = super().to_representation(run)
        request = self.context["request"]
        username = request.query_params.get("username")
        requester = request.user
        if username and (
            requester.username == username or requester.is_staff or requester.is_superuser
        ):
            user = get_user_model().objects.get(username=username)
            answer["is_enrolled"] = CourseEnrollment.is_enrolled(user, run.id)
        return answer
