"""Handles ``POST`` requests of the enrollment API: permissions, validation, and the change."""

from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey
from rest_framework.response import Response

from usher.embedded.course_modes.models import CourseMode
from usher.embedded.enrollments import errors, services

_REQUIRED_ATTRIBUTES = {"credit": {"credit:provider_id"}}


class Refused(Exception):
    """A refusal, with the status of its response. message: None for a response without a body.
    fields: fields of the body in addition to ``message``."""

    def __init__(self, status: int, message: str | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.status, self.body = status, {"message": message, **fields} if message else None

    def response(self) -> Response:
        return Response(self.body, status=self.status)


@dataclass(frozen=True)
class EnrollmentRequest:
    """A validated request for which the requester has permission. user: the learner. mode,
    is_active, attributes: None if the request does not name them. force: enroll even outside the
    enrollment period, and in an expired mode. by_staff: whether the requester is staff."""

    user: User
    course_id: CourseKey
    mode: str | None
    is_active: bool | None
    force: bool
    attributes: list[dict[str, Any]] | None
    by_staff: bool


def _course_id(data: Any) -> CourseKey:
    text = data.get("course_details", {}).get("course_id")
    if not text:
        raise Refused(400, "Course ID must be specified to create a new enrollment.")
    try:
        return CourseKey.from_string(text)
    except InvalidKeyError as error:
        raise Refused(400, f"No course '{text}' found for enrollment") from error


def _username(data: Any, requester: User, *, privileged: bool) -> str:
    """The username of the learner: from the username or e-mail address in the request, otherwise
    the requester's own. Only a privileged requester may name another user."""
    username = data.get("user")
    if username and username != requester.username and not privileged:
        raise Refused(404)
    if username:
        return str(username)
    email = data.get("email")
    if not email:
        return requester.username
    if not privileged:
        raise Refused(404)
    user = User.objects.filter(email=email).first()
    if user is None:
        raise Refused(406, f"The user with the email address {email} does not exist.")
    return user.username


def _boolean(data: Any, name: str, label: str) -> bool | None:
    """The field ``name`` of the request, None if it is missing. Raises Refused for a value that is
    not a boolean; the message calls the field ``label``."""
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"'{value}' is an invalid {label} status.")
    return value


def validate(data: Any, requester: User) -> EnrollmentRequest:
    """Validate the request, in the platform's order of checks. Raises Refused."""
    staff = requester.is_staff
    course_id = _course_id(data)
    username = _username(data, requester, privileged=staff)
    mode = data.get("mode")
    if mode not in {CourseMode.AUDIT, CourseMode.HONOR, None} and not staff:
        raise Refused(
            403, f"User does not have permission to create enrollment with mode [{mode}]."
        )
    user = User.objects.filter(username=username).first()
    if user is None:
        raise Refused(406, f"The user {username} does not exist.")
    return EnrollmentRequest(
        user=user,
        course_id=course_id,
        mode=mode,
        is_active=_boolean(data, "is_active", "enrollment activation"),
        force=bool(_boolean(data, "force_enrollment", "force enrollment") and staff),
        attributes=data.get("enrollment_attributes"),
        by_staff=staff,
    )


def _add_or_update(requested: EnrollmentRequest) -> dict[str, Any]:
    """Update an existing enrollment if staff asked for another mode or activity; otherwise add the
    enrollment. Raises Refused, and this package's errors."""
    enrollment = services.get_enrollment(requested.user.username, requested.course_id)
    mode_changes = bool(
        enrollment and requested.mode is not None and enrollment["mode"] != requested.mode
    )
    activity_changes = bool(
        enrollment
        and requested.is_active is not None
        and enrollment["is_active"] != requested.is_active
    )
    if not (requested.by_staff and enrollment and (mode_changes or activity_changes)):
        return services.add_enrollment(
            requested.user,
            requested.course_id,
            mode=requested.mode,
            is_active=requested.is_active,
            attributes=requested.attributes,
            force=requested.force,
            include_expired=requested.force,
        )
    if mode_changes and activity_changes and not requested.is_active:
        # The client's copy of the enrollment is out of date.
        raise Refused(
            400,
            f"Enrollment mode mismatch: active mode={enrollment['mode']}, "
            f"requested mode={requested.mode}. Won't deactivate.",
        )
    required_names = _REQUIRED_ATTRIBUTES.get(requested.mode or "", set())
    attribute_names = {
        "{namespace}:{name}".format(**attribute) for attribute in requested.attributes or []
    }
    # As on the platform, a request without any attributes passes this check.
    if requested.attributes and required_names - attribute_names:
        raise Refused(
            400,
            f"Missing enrollment attributes: requested mode={requested.mode} "
            f"required attributes={sorted(required_names)}",
        )
    return services.update_enrollment(
        requested.user,
        requested.course_id,
        mode=requested.mode,
        is_active=requested.is_active,
        attributes=requested.attributes,
    )


def apply(requested: EnrollmentRequest) -> dict[str, Any]:
    """Change the enrollment as requested. Returns its new state. Raises Refused."""
    username, course_id = requested.user.username, requested.course_id
    try:
        return _add_or_update(requested)
    except errors.InvalidEnrollmentAttribute as error:
        raise Refused(400, str(error), localizedMessage=str(error)) from error
    except errors.CourseModeNotFoundError as error:
        raise Refused(
            400,
            f"The [{requested.mode}] course mode is expired or otherwise unavailable "
            f"for course run [{course_id}].",
            course_details=error.data,
        ) from error
    except errors.CourseNotFoundError as error:
        raise Refused(400, f"No course '{course_id}' found for enrollment") from error
    except errors.CourseEnrollmentExistsError as error:
        return dict(error.data)  # no refusal: the answer is the existing enrollment
    except errors.CourseEnrollmentError as error:
        raise Refused(
            400,
            "An error occurred while creating the new course enrollment for user "
            f"'{username}' in course '{course_id}'",
        ) from error
