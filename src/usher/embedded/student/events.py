"""Sends the openedx-events of accounts and enrollments."""

from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist
from openedx_events.learning.data import (
    CourseData,
    CourseEnrollmentData,
    UserData,
    UserPersonalData,
)
from openedx_events.learning.signals import (
    COURSE_ENROLLMENT_CHANGED,
    COURSE_ENROLLMENT_CREATED,
    COURSE_UNENROLLMENT_COMPLETED,
    SESSION_LOGIN_COMPLETED,
    STUDENT_REGISTRATION_COMPLETED,
)

from usher.embedded.student.enrollment_models import CourseEnrollment


def user_data(user: User) -> UserData:
    try:
        name = user.profile.name
    except ObjectDoesNotExist:
        name = ""
    return UserData(
        pii=UserPersonalData(username=user.username, email=user.email, name=name),
        id=user.pk,
        is_active=user.is_active,
    )


def enrollment_data(enrollment: CourseEnrollment) -> CourseEnrollmentData:
    run = enrollment.course_overview
    course = (
        CourseData(course_key=enrollment.course_id, display_name=run.display_name or "")
        if run
        else CourseData(course_key=enrollment.course_id)
    )
    return CourseEnrollmentData(
        user=user_data(enrollment.user),
        course=course,
        mode=enrollment.mode,
        is_active=enrollment.is_active,
        creation_date=enrollment.created,
    )


def send_registration_completed(user: User) -> None:
    STUDENT_REGISTRATION_COMPLETED.send_event(user=user_data(user))


def send_login_completed(user: User) -> None:
    SESSION_LOGIN_COMPLETED.send_event(user=user_data(user))


def send_enrollment_created(enrollment: CourseEnrollment) -> None:
    COURSE_ENROLLMENT_CREATED.send_event(enrollment=enrollment_data(enrollment))


def send_enrollment_changed(enrollment: CourseEnrollment) -> None:
    COURSE_ENROLLMENT_CHANGED.send_event(enrollment=enrollment_data(enrollment))


def send_unenrollment_completed(enrollment: CourseEnrollment) -> None:
    COURSE_UNENROLLMENT_COMPLETED.send_event(enrollment=enrollment_data(enrollment))
