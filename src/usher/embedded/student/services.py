"""Decides who may enroll, and enrolls. Errors:

CourseEnrollmentException
├── NonExistentCourseError
├── EnrollmentClosedError
├── CourseFullError
├── AlreadyEnrolledError
└── EnrollmentNotAllowed
"""

from collections.abc import Sequence

from django.apps import apps
from django.contrib.auth.models import User
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_modes.models import CourseMode
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.student import events
from usher.embedded.student.enrollment_models import (
    CourseAccessRole,
    CourseEnrollment,
    CourseEnrollmentAllowed,
)
from usher.lms import bulk


class CourseEnrollmentException(Exception):
    pass


class NonExistentCourseError(CourseEnrollmentException):
    pass


class EnrollmentClosedError(CourseEnrollmentException):
    pass


class CourseFullError(CourseEnrollmentException):
    pass


class AlreadyEnrolledError(CourseEnrollmentException):
    pass


class EnrollmentNotAllowed(CourseEnrollmentException):
    pass


def has_staff_access(user: User, course_key: CourseKey) -> bool:
    """Global staff, or staff or instructor of this run."""
    if user.is_staff:
        return True
    return CourseAccessRole.objects.filter(
        user=user, course_id=course_key, role__in=["staff", "instructor"]
    ).exists()


def may_enroll(user: User, run: CourseOverview) -> bool:
    """Whether ``user`` may enroll without help from staff: because the user is staff, was invited,
    or enrollment is open.

    As on the platform, a user may not enroll if another user has used the invitation of the user's
    e-mail address.
    """
    invitation = CourseEnrollmentAllowed.objects.filter(email=user.email, course_id=run.id).first()
    if invitation:
        return invitation.user_id in {None, user.pk}
    is_open = not run.invitation_only and run.is_enrollment_open()
    return is_open or has_staff_access(user, run.id)


def default_mode(course_key: CourseKey) -> str:
    """The mode for an enrollment request that names no mode."""
    available = [mode.slug for mode in CourseMode.modes_for_course(course_key)]
    for slug in (CourseMode.DEFAULT_MODE_SLUG, CourseMode.AUDIT, CourseMode.HONOR):
        if slug in available:
            return slug
    return CourseMode.DEFAULT_MODE_SLUG


def _check_access(user: User, course_key: CourseKey, *, can_upgrade: bool) -> None:
    """Raises the subclass of CourseEnrollmentException that says why ``user`` can't be enrolled.
    can_upgrade: as in ``enroll``."""
    run = CourseOverview.objects.filter(id=course_key).first()
    if run is None:
        raise NonExistentCourseError(str(course_key))
    if not may_enroll(user, run) and not can_upgrade:
        raise EnrollmentClosedError(str(course_key))
    limit = run.max_student_enrollments_allowed
    if limit is not None:
        # Course staff don't count towards the limit of places.
        teachers = CourseAccessRole.objects.filter(
            course_id=course_key, role__in=["staff", "instructor", "ccx_coach"]
        )
        learners = CourseEnrollment.objects.filter(course_id=course_key, is_active=True)
        places_taken = learners.exclude(user__in=teachers.values("user")).count()
        if places_taken >= limit:
            raise CourseFullError(str(course_key))
    if CourseEnrollment.is_enrolled(user, course_key):
        raise AlreadyEnrolledError(str(course_key))


def enroll(
    user: User,
    course_key: CourseKey,
    mode: str | None = None,
    check_access: bool = False,
    can_upgrade: bool = False,
) -> CourseEnrollment:
    """Enroll ``user``, or reactivate the enrollment. mode: None for the run's default mode.
    check_access: first check that the user may enroll, that the run has a free place and that the
    user is not enrolled yet. can_upgrade: enroll even outside the enrollment period.

    Without ``check_access`` nothing is raised; with it, the subclasses of
    CourseEnrollmentException.
    """
    if check_access:
        _check_access(user, course_key, can_upgrade=can_upgrade)
    enrollment, _ = CourseEnrollment.objects.get_or_create(
        user=user,
        course_id=course_key,
        defaults={"mode": CourseMode.DEFAULT_MODE_SLUG, "is_active": False},
    )
    CourseEnrollmentAllowed.objects.filter(
        email=user.email, course_id=course_key, user__isnull=True
    ).update(user=user)
    update_enrollment(enrollment, mode=mode or default_mode(course_key), is_active=True)
    events.send_enrollment_created(enrollment)
    return enrollment


def enroll_all(new_enrollments: Sequence[tuple[CourseEnrollment, str]]) -> list[CourseEnrollment]:
    """Do the work of ``enroll`` for many rows, without its checks.

    new_enrollments: pairs of an unsaved row and its final mode. The row is inactive and in the
    default mode: the first state that ``enroll`` saves. Here one statement inserts all rows in
    their final state, but receivers and history get both states, as from ``enroll``.
    """
    if not new_enrollments:
        return []
    rows = [row for row, _ in new_enrollments]
    default_mode_slug = rows[0].mode
    for row in rows:
        bulk.send_pre_save(row)
    for row, mode in new_enrollments:
        row.mode, row.is_active = mode, True
    bulk.insert(rows, unique_fields=["user_id", "course_id"])
    replaced_receivers = _run_receivers_in_bulk(new_enrollments, default_mode_slug)
    for row, mode in new_enrollments:
        row.mode, row.is_active = default_mode_slug, False
        bulk.send_post_save(row, created=True, replaced=replaced_receivers)
        row.mode, row.is_active = mode, True
        bulk.send_pre_save(row)
        bulk.send_post_save(row, created=False, replaced=replaced_receivers)
        events.send_enrollment_changed(row)
        events.send_enrollment_created(row)
    return rows


def _run_receivers_in_bulk(
    new_enrollments: Sequence[tuple[CourseEnrollment, str]], default_mode_slug: str
) -> list[bulk.Receiver]:
    """Do the work of the receivers in ``platform_load`` for all rows; return these receivers, which
    the caller must not call for each row."""
    if not apps.is_installed("usher.embedded.platform_load"):
        return []
    from usher.embedded.platform_load import receivers

    rows = [row for row, _ in new_enrollments]
    receivers.add_forum_roles_of(rows)
    for row in rows:
        row.mode, row.is_active = default_mode_slug, False
    receivers.add_history_of(rows)
    for row, mode in new_enrollments:
        row.mode, row.is_active = mode, True
    receivers.add_history_of(rows)
    return [receivers.add_forum_role, receivers.add_history]


def update_enrollment(
    enrollment: CourseEnrollment, mode: str | None = None, is_active: bool | None = None
) -> None:
    """Set ``mode`` and ``is_active`` (None: unchanged), and send the events of the changes."""
    activity_changed = is_active is not None and enrollment.is_active != is_active
    mode_changed = mode is not None and enrollment.mode != mode
    if not activity_changed and not mode_changed:
        return
    if is_active is not None:
        enrollment.is_active = is_active
    if mode is not None:
        enrollment.mode = mode
    enrollment.save()
    events.send_enrollment_changed(enrollment)
    if activity_changed and not enrollment.is_active:
        events.send_unenrollment_completed(enrollment)
