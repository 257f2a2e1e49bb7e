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
    def __init__(self, status: int, message: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.status, self.body = status, {"message": message, **more} if message else None

    def response(self) -> Response:
        return Response(self.body, status=self.status)


@dataclass(frozen=True)
class Wish:
    """A validated request for which the user has permission."""

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


def _username(data: Any, asks: User, privileged: bool) -> str:
    """The username, from a username or e-mail address in the request, or the user's own. Other
    users need permission."""
    username = data.get("user")
    if username and username != asks.username and not privileged:
        raise Refused(404)
    if username:
        return str(username)
    email = data.get("email")
    if not email:
        return asks.username
    if not privileged:
        raise Refused(404)
    found = User.objects.filter(email=email).first()
    if found is None:
        raise Refused(406, f"The user with the email address {email} does not exist.")
    return found.username


def _flag(data: Any, name: str, what: str) -> bool | None:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise Refused(400, f"'{value}' is an invalid {what} status.")
    return value


def read(data: Any, asks: User) -> Wish:
    """Validate the request, in the platform's order of checks. Raises Refused."""
    staff = asks.is_staff
    course_id = _course_id(data)
    username = _username(data, asks, staff)
    mode = data.get("mode")
    if mode not in {CourseMode.AUDIT, CourseMode.HONOR, None} and not staff:
        raise Refused(
            403, f"User does not have permission to create enrollment with mode [{mode}]."
        )
    user = User.objects.filter(username=username).first()
    if user is None:
        raise Refused(406, f"The user {username} does not exist.")
    return Wish(
        user=user,
        course_id=course_id,
        mode=mode,
        is_active=_flag(data, "is_active", "enrollment activation"),
        force=bool(_flag(data, "force_enrollment", "force enrollment") and staff),
        attributes=data.get("enrollment_attributes"),
        by_staff=staff,
    )


def _apply(wish: Wish) -> dict[str, Any]:
    there = services.get_enrollment(wish.user.username, wish.course_id)
    mode_changes = bool(there and wish.mode is not None and there["mode"] != wish.mode)
    activity_changes = bool(
        there and wish.is_active is not None and there["is_active"] != wish.is_active
    )
    if not (wish.by_staff and there and (mode_changes or activity_changes)):
        return services.add_enrollment(
            wish.user,
            wish.course_id,
            mode=wish.mode,
            is_active=wish.is_active,
            attributes=wish.attributes,
            force=wish.force,
            include_expired=wish.force,
        )
    if mode_changes and activity_changes and not wish.is_active:
        # The client's copy of the enrollment is out of date.
        raise Refused(
            400,
            f"Enrollment mode mismatch: active mode={there['mode']}, "
            f"requested mode={wish.mode}. Won't deactivate.",
        )
    required = _REQUIRED_ATTRIBUTES.get(wish.mode or "", set())
    given = {"{namespace}:{name}".format(**one) for one in wish.attributes or []}
    if wish.attributes and required - given:
        raise Refused(
            400,
            f"Missing enrollment attributes: requested mode={wish.mode} "
            f"required attributes={sorted(required)}",
        )
    return services.update_enrollment(
        wish.user,
        wish.course_id,
        mode=wish.mode,
        is_active=wish.is_active,
        attributes=wish.attributes,
    )


def fulfil(wish: Wish) -> dict[str, Any]:
    """Carry out the request; return the enrollment as it is then. Raises Refused."""
    username, course_id = wish.user.username, wish.course_id
    try:
        return _apply(wish)
    except errors.InvalidEnrollmentAttribute as error:
        raise Refused(400, str(error), localizedMessage=str(error)) from error
    except errors.CourseModeNotFoundError as error:
        raise Refused(
            400,
            f"The [{wish.mode}] course mode is expired or otherwise unavailable "
            f"for course run [{course_id}].",
            course_details=error.data,
        ) from error
    except errors.CourseNotFoundError as error:
        raise Refused(400, f"No course '{course_id}' found for enrollment") from error
    except errors.CourseEnrollmentExistsError as error:
        return dict(error.data)
    except errors.CourseEnrollmentError as error:
        raise Refused(
            400,
            "An error occurred while creating the new course enrollment for user "
            f"'{username}' in course '{course_id}'",
        ) from error
