"""Reads and changes enrollments; results can be serialized as JSON."""

from typing import Any

from django.contrib.auth.models import User
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.enrollments import errors
from usher.embedded.enrollments.serializers import CourseEnrollmentSerializer, CourseSerializer
from usher.embedded.student import services as student
from usher.embedded.student.models import CourseEnrollment, CourseEnrollmentAttribute

Answer = dict[str, Any]


def course_details(course_id: CourseKey, include_expired: bool = False) -> Answer:
    """The run with its modes. include_expired: also modes whose deadline has passed. Raises
    CourseNotFoundError."""
    run = CourseOverview.objects.filter(id=course_id).first()
    if run is None:
        raise errors.CourseNotFoundError(
            f"Requested enrollment information for unknown course {course_id}"
        )
    return dict(CourseSerializer(run, include_expired=include_expired).data)


def get_enrollment(username: str, course_id: CourseKey) -> Answer | None:
    enrollment = (
        CourseEnrollment.objects.select_related("user", "course")
        .filter(user__username=username, course_id=course_id)
        .first()
    )
    return dict(CourseEnrollmentSerializer(enrollment).data) if enrollment else None


def get_enrollments(username: str) -> list[Answer]:
    """Active enrollments, oldest first, except those in deleted runs."""
    enrollments = (
        CourseEnrollment.objects.select_related("user", "course")
        .filter(user__username=username, is_active=True)
        .order_by("created")
    )
    answers = CourseEnrollmentSerializer(enrollments, many=True).data
    return [dict(answer) for answer in answers if answer["course_details"] is not None]


def require_mode(
    course_id: CourseKey, mode: str, is_active: bool | None, *, include_expired: bool
) -> None:
    """Check that the run offers the mode. is_active: the requested state of the enrollment. An
    expired mode is accepted with ``include_expired``, and if ``is_active`` is false. Raises
    CourseNotFoundError or CourseModeNotFoundError."""
    if not include_expired and is_active is not None:
        include_expired = not is_active
    details = course_details(course_id, include_expired=include_expired)
    available = [offered["slug"] for offered in details["course_modes"]]
    if mode not in available:
        raise errors.CourseModeNotFoundError(
            f"Specified course mode '{mode}' unavailable for course {course_id}.  "
            f"Available modes were: {', '.join(available)}",
            details,
        )


def add_enrollment(
    user: User,
    course_id: CourseKey,
    *,
    mode: str | None = None,
    is_active: bool | None = True,
    attributes: list[Answer] | None = None,
    force: bool = False,
    include_expired: bool = False,
) -> Answer:
    """Enroll ``user``. mode: None for the run's default mode. is_active: None for true. attributes:
    None for none. force: enroll even outside the enrollment period. include_expired: accept a mode
    whose deadline has passed. Raises this package's errors."""
    mode = mode or student.default_mode(course_id)
    require_mode(course_id, mode, is_active, include_expired=include_expired)
    try:
        enrollment = student.enroll(user, course_id, check_access=True, can_upgrade=force)
    except student.NonExistentCourseError as error:
        raise errors.CourseNotFoundError(str(error)) from error
    except student.EnrollmentClosedError as error:
        raise errors.CourseEnrollmentClosedError(str(error)) from error
    except student.CourseFullError as error:
        raise errors.CourseEnrollmentFullError(str(error)) from error
    except student.AlreadyEnrolledError as error:
        existing = get_enrollment(user.username, course_id)
        raise errors.CourseEnrollmentExistsError(str(error), existing) from error
    # As on the platform, ``enroll`` has used the default mode; this sets the requested one.
    enrollment.update_enrollment(mode=mode, is_active=is_active)
    answer = dict(CourseEnrollmentSerializer(enrollment).data)
    set_attributes(enrollment, attributes)
    return answer


def update_enrollment(
    user: User,
    course_id: CourseKey,
    *,
    mode: str | None = None,
    is_active: bool | None = None,
    attributes: list[Answer] | None = None,
    include_expired: bool = False,
) -> Answer:
    """Change the mode or ``is_active`` of an existing enrollment, and add or update attributes
    (None: unchanged). include_expired: accept a mode whose deadline has passed. Raises this
    package's errors."""
    if mode is not None:
        require_mode(course_id, mode, is_active, include_expired=include_expired)
    enrollment = CourseEnrollment.get_enrollment(user, course_id)
    if enrollment is None:
        raise errors.EnrollmentNotFoundError(
            f"Course Enrollment not found for user {user.username} in course {course_id}"
        )
    enrollment.update_enrollment(mode=mode, is_active=is_active)
    set_attributes(enrollment, attributes)
    return dict(CourseEnrollmentSerializer(enrollment).data)


def set_attributes(enrollment: CourseEnrollment, attributes: list[Answer] | None) -> None:
    """Add or update attributes, each with ``namespace``, ``name`` and ``value``. Raises
    InvalidEnrollmentAttribute if an attribute lacks one of these keys."""
    for attribute in attributes or []:
        for name in ("namespace", "name", "value"):
            if name not in attribute:
                raise errors.InvalidEnrollmentAttribute(f"'{name}' not in enrollment attribute")
    CourseEnrollmentAttribute.add_enrollment_attr(enrollment, attributes or [])
