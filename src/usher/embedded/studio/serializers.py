"""Serializers of course runs in Studio's API (``cms/djangoapps/api/v1/serializers``)."""

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from opaque_keys.edx.keys import CourseKey
from rest_framework import serializers

from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student.models import CourseAccessRole
from usher.embedded.studio import services


class ScheduleSerializer(serializers.Serializer[Any]):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    enrollment_start = serializers.DateTimeField(allow_null=True, required=False)
    enrollment_end = serializers.DateTimeField(allow_null=True, required=False)


class RoleSerializer(serializers.ModelSerializer[CourseAccessRole]):
    user = serializers.SlugRelatedField(slug_field="username", queryset=User.objects.all())

    class Meta:
        model = CourseAccessRole
        fields = ("user", "role")


class TeamField(serializers.Field[Any, Any, Any, Any]):
    """Who teaches the run; a list of ``{"user": name, "role": role}``."""

    def get_attribute(self, run: CourseOverview) -> CourseOverview:
        return run

    def to_representation(self, run: CourseOverview) -> Any:
        return RoleSerializer(CourseAccessRole.objects.filter(course_id=run.id), many=True).data

    def to_internal_value(self, data: Any) -> Any:
        for member in data:
            if not User.objects.filter(username=member["user"]).exists():
                raise serializers.ValidationError("Course team user does not exist")
        return RoleSerializer(data=data, many=True).to_internal_value(data)


class PacingField(serializers.ChoiceField):
    """``self_paced`` of a run, as a word."""

    def to_representation(self, value: Any) -> str:
        return "self_paced" if value else "instructor_paced"

    def to_internal_value(self, data: Any) -> Any:
        """As in the platform, every other word means ``instructor_paced``."""
        return data == "self_paced"


class ImagesSerializer(serializers.Serializer[CourseOverview]):
    card_image = serializers.SerializerMethodField()

    def get_card_image(self, run: CourseOverview) -> str:
        return str(self.context["request"].build_absolute_uri(run.course_image_url))


class CourseRunSerializer(serializers.Serializer[CourseOverview]):
    schedule = ScheduleSerializer(source="*", required=False)
    pacing_type = PacingField(
        source="self_paced",
        required=False,
        choices=((False, "instructor_paced"), (True, "self_paced")),
    )
    team = TeamField(required=False)
    id = serializers.CharField(read_only=True)
    title = serializers.CharField(source="display_name")
    images = ImagesSerializer(source="*", read_only=True)

    def update(self, run: CourseOverview, data: dict[str, Any]) -> CourseOverview:
        team = data.pop("team", [])
        with transaction.atomic():
            # PUT replaces the team (by nobody, if the request has no team); PATCH adds to it.
            services.set_team(run, team, replace=not self.partial)
            for name, value in data.items():
                setattr(run, name, value)
            run.save()
        return run


class CourseRunCreateSerializer(CourseRunSerializer):
    org = serializers.CharField(source="id.org")
    number = serializers.CharField(source="id.course")
    run = serializers.CharField(source="id.run")

    def create(self, data: dict[str, Any]) -> CourseOverview:
        parts, team = data.pop("id"), data.pop("team", [])
        key = services.course_run_key(parts["org"], parts["course"], parts["run"])
        with transaction.atomic():
            run = services.create(self.context["request"].user, key, data)
            # As in Studio, the team, even an empty one, replaces the author's own roles.
            services.set_team(run, team, replace=not self.partial)
        return run


class CloneSerializer(serializers.Serializer[CourseOverview]):
    source_course_id = serializers.CharField()
    destination_course_id = serializers.CharField()

    def validate(self, data: dict[str, Any]) -> dict[str, Any]:
        """A key that can't be read is an error 500, as in the platform."""
        source = CourseKey.from_string(data["source_course_id"])
        destination = CourseKey.from_string(data["destination_course_id"])
        if not CourseOverview.course_exists(source):
            raise serializers.ValidationError("Source course does not exist.")
        if CourseOverview.course_exists(destination):
            raise serializers.ValidationError("Destination course already exists.")
        return data

    def create(self, data: dict[str, Any]) -> CourseOverview:
        source = CourseOverview.get_from_id(CourseKey.from_string(data["source_course_id"]))
        destination = CourseKey.from_string(data["destination_course_id"])
        return services.rerun(self.context["request"].user, source, destination)
