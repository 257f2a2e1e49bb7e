"""Serializers of enrollments and course runs in the enrollment API."""

from typing import Any

from rest_framework import serializers

from usher.embedded.course_modes.models import CourseMode, Mode
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student.models import CourseEnrollment


class ModeSerializer(serializers.Serializer[Mode]):
    slug = serializers.CharField()
    name = serializers.CharField()
    min_price = serializers.IntegerField()
    suggested_prices = serializers.CharField()
    currency = serializers.CharField()
    expiration_datetime = serializers.DateTimeField()
    description = serializers.CharField()
    sku = serializers.CharField()
    bulk_sku = serializers.CharField()


class CourseSerializer(serializers.Serializer[CourseOverview]):
    course_id = serializers.CharField(source="id")
    course_name = serializers.CharField(source="display_name_with_default")
    enrollment_start = serializers.DateTimeField(format=None)
    enrollment_end = serializers.DateTimeField(format=None)
    course_start = serializers.DateTimeField(source="start", format=None)
    course_end = serializers.DateTimeField(source="end", format=None)
    invite_only = serializers.BooleanField(source="invitation_only")
    course_modes = serializers.SerializerMethodField()
    pacing_type = serializers.SerializerMethodField()

    def __init__(self, *args: Any, include_expired: bool = False, **kwargs: Any) -> None:
        self.include_expired = include_expired
        super().__init__(*args, **kwargs)

    def get_course_modes(self, run: CourseOverview) -> list[Any]:
        modes = CourseMode.modes_for_course(
            run.id, include_expired=self.include_expired, only_selectable=False
        )
        return [ModeSerializer(mode).data for mode in modes]

    def get_pacing_type(self, run: CourseOverview) -> str:
        return "Self Paced" if run.self_paced else "Instructor Paced"


class CourseEnrollmentSerializer(serializers.ModelSerializer[CourseEnrollment]):
    course_details = CourseSerializer(source="course_overview")
    user = serializers.CharField(source="username")

    class Meta:
        model = CourseEnrollment
        fields = ("created", "mode", "is_active", "course_details", "user")


class CourseEnrollmentsApiListSerializer(serializers.ModelSerializer[CourseEnrollment]):
    user = serializers.CharField(source="username")
    course_id = serializers.CharField(source="course_overview.id")

    class Meta:
        model = CourseEnrollment
        fields = ("created", "mode", "is_active", "user", "course_id")
