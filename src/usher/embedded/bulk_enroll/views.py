"""``/api/bulk_enroll/v1/bulk_enroll``: staff enroll many learners in many runs."""

import re
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.http import Http404
from edx_rest_framework_extensions.auth.jwt.authentication import JwtAuthentication
from edx_rest_framework_extensions.permissions import IsStaff
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from usher.embedded.core.authentication import BearerAuthentication
from usher.embedded.enrollments.views import EnrollmentThrottle
from usher.embedded.student.models import (
    CourseEnrollment,
    CourseEnrollmentAllowed,
    ManualEnrollmentAudit,
)


class StringListField(serializers.ListField):
    """A list in one text, separated by commas. As on the platform, only the first text counts if a
    request sends several."""

    def to_internal_value(self, data: Any) -> list[str]:
        if not data:
            return []
        return str(data[0] if isinstance(data, list) else data).split(",")


class BulkEnrollmentSerializer(serializers.Serializer[Any]):
    identifiers = serializers.CharField(required=True)
    courses = StringListField(required=True)
    action = serializers.ChoiceField(choices=("enroll", "unenroll"), required=True)
    auto_enroll = serializers.BooleanField(default=False)
    email_students = serializers.BooleanField(default=False)  # no e-mail is sent here

    def validate_courses(self, courses: list[str]) -> list[str]:
        for course in courses:
            try:
                CourseKey.from_string(course)
            except InvalidKeyError as error:
                raise serializers.ValidationError(f"Course key not valid: {course}") from error
        return courses


def _enrollment_state(user: User | None, email: str, key: CourseKey) -> dict[str, bool]:
    """The enrollment state of one learner in one run, as the API reports it before and after."""
    invitation = CourseEnrollmentAllowed.objects.filter(email=email, course_id=key).first()
    return {
        "user": user is not None,
        "enrollment": bool(user and CourseEnrollment.is_enrolled(user, key)),
        "allowed": invitation is not None,
        "auto_enroll": bool(invitation and invitation.auto_enroll),
    }


def _find_user(identifier: str) -> tuple[User | None, str]:
    """The user with this e-mail address or username, and the user's e-mail address. Without such a
    user: None and ``identifier``."""
    field = "email" if "@" in identifier else "username"
    user = User.objects.filter(**{field: identifier}).first()
    return user, user.email if user else identifier


def _enroll(user: User | None, email: str, key: CourseKey, *, auto_enroll: bool) -> None:
    """Enroll an active user. Without an active user, invite the e-mail address. auto_enroll:
    whether the invitation enrolls the person who later registers with this address."""
    if user is None or not user.is_active:
        CourseEnrollmentAllowed.objects.update_or_create(
            email=email, course_id=key, defaults={"auto_enroll": auto_enroll}
        )
    elif not CourseEnrollment.is_enrolled(user, key):
        CourseEnrollment.enroll(user, key)


def _unenroll(user: User | None, email: str, key: CourseKey) -> None:
    if user is not None:
        CourseEnrollment.unenroll(user, key)
    CourseEnrollmentAllowed.objects.filter(email=email, course_id=key).delete()


def _change_enrollment(
    requester: User, identifier: str, key: CourseKey, form_data: dict[str, Any]
) -> dict[str, Any]:
    """Enroll or unenroll one learner as ``form_data`` says, and record who did so. identifier: the
    learner's e-mail address or username. Returns the learner's entry in ``results`` of the
    answer."""
    user, email = _find_user(identifier)
    try:
        if user is None:
            validate_email(identifier)
    except ValidationError:
        return {"identifier": identifier, "invalidIdentifier": True}
    before = _enrollment_state(user, email, key)
    if form_data["action"] == "enroll":
        _enroll(user, email, key, auto_enroll=form_data["auto_enroll"])
    else:
        _unenroll(user, email, key)
    after = _enrollment_state(user, email, key)
    ManualEnrollmentAudit.objects.create(
        enrollment=CourseEnrollment.get_enrollment(user, key) if user else None,
        enrolled_by=requester,
        enrolled_email=email,
        state_transition=f"{form_data['action']}: {before['enrollment']} to {after['enrollment']}",
    )
    return {"identifier": identifier, "before": before, "after": after}


class BulkEnrollView(APIView):
    """Enrolls or unenrolls many learners in several runs, for staff."""

    authentication_classes = (JwtAuthentication, BearerAuthentication)
    permission_classes = (IsStaff,)
    throttle_classes = (EnrollmentThrottle,)

    def post(self, request: Any) -> Response:
        serializer = BulkEnrollmentSerializer(data=request.data)
        if not serializer.is_valid():
            return Response(serializer.errors, status=400)
        form_data = serializer.validated_data
        if not settings.EMBEDDED_RUNS_HAVE_CONTENT:
            # The platform must load a course's content to enroll in bulk.
            raise Http404
        identifiers = [
            identifier for identifier in re.split(r"[\s,]+", form_data["identifiers"]) if identifier
        ]
        courses = {
            course: {
                "action": form_data["action"],
                "results": [
                    _change_enrollment(
                        request.user, identifier, CourseKey.from_string(course), form_data
                    )
                    for identifier in identifiers
                ],
                "auto_enroll": form_data["auto_enroll"],
            }
            for course in form_data["courses"]
        }
        return Response(
            {
                "auto_enroll": form_data["auto_enroll"],
                "email_students": form_data["email_students"],
                "action": form_data["action"],
                "courses": courses,
            }
        )
