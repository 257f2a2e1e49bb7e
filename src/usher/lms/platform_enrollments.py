"""Changes enrollments of edx-platform, one at a time or many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from usher.lms import bulk
from usher.lms.enrollments import NewEnrollment, State, Step, next_step, once, refusals
from usher.lms.errors import EnrollmentError, EnrollmentRefused
from usher.lms.platform_receivers import Done, after_enrollments


def set_enrollment(
    request: Any,
    user: Any,
    key: Any,
    *,
    mode: str | None,
    is_active: bool,
    force: bool,
    present: State | None,
    checked: dict[Any, Any],
) -> State:
    """Set one enrollment's mode and activity; return what it has afterwards.

    Does what ``POST /api/enrollment/v1/enrollment`` does for a staff user, with its rules, rows
    and signals, without describing the course in between as that view does, and without its two
    redundant saves; ``force`` enrolls in a closed run and in an expired mode. present: the current
    state, None without an enrollment. checked: cache of runs and modes, shared by a batch. Raises
    EnrollmentRefused.
    """
    from common.djangoapps.student import models

    _refuse_embargoed(request, user, key)
    with refusals(_names(), key, mode):
        found: Any = None
        if present is not None:
            found = models.CourseEnrollment.objects.filter(user=user, course_id=key).first()
            present = (found.mode, found.is_active) if found else None
        step = next_step(present, mode, is_active, username=user.username, key=key)
        if present and step is Step.NOTHING:
            return present
        if step is Step.ADD:
            mode = _mode_or_default(key, mode, checked)
        if mode is not None:
            _validate_mode(key, mode, is_active=is_active, force=force, checked=checked)
        if step is Step.ADD:
            try:
                # In the requested mode at once; the platform's view uses the default mode first.
                found = models.CourseEnrollment.enroll(
                    user, key, mode=mode, check_access=True, can_upgrade=force
                )
            except models.AlreadyEnrolledError:
                # Another request has enrolled the learner since this batch read the database.
                found = models.CourseEnrollment.objects.get(user=user, course_id=key)
        if (mode or found.mode, is_active) != (found.mode, found.is_active):
            found.user = user
            found.update_enrollment(is_active=is_active, mode=mode)
    return found.mode, found.is_active


def add_enrollments(
    request: Any, wanted: Sequence[NewEnrollment], checked: dict[Any, Any]
) -> list[State | EnrollmentRefused | None]:
    """Enroll learners who have no row in the run, all at once. Returns for each the state
    afterwards or a refusal; None for those that ``set_enrollment`` has to do: learners who were
    invited, runs with a limited number of places, and all of them where the LMS has an enrollment
    filter.

    Rows and signals are those of ``CourseEnrollment.enroll``, which inserts an inactive row in the
    default mode and then updates it. Here the row is inserted in its final state; receivers and
    history get both states.
    """
    outcomes: list[State | EnrollmentRefused | None] = [None] * len(wanted)
    if _has_enrollment_filter() or not wanted:
        return outcomes
    invited = _invited(wanted)
    _prefetch_roles(list({each.user.pk: each.user for each in wanted if not each.force}.values()))
    adding: dict[int, tuple[Any, str]] = {}
    for number, each in enumerate(wanted):
        if (each.user.pk, each.key) in invited:
            continue
        try:
            found = _new_row(request, each, checked)
        except EnrollmentRefused as refusal:
            outcomes[number] = refusal
            continue
        if found is not None:
            adding[number] = found
    for number, state in zip(adding, _add([*adding.values()]), strict=True):
        outcomes[number] = state
    return outcomes


def _new_row(
    request: Any, wanted: NewEnrollment, checked: dict[Any, Any]
) -> tuple[Any, str] | None:
    """A row as the platform first inserts it, and the mode that it will have; None where the run
    has a limited number of places. Raises EnrollmentRefused."""
    from common.djangoapps.student import models

    user, key = wanted.user, wanted.key
    _refuse_embargoed(request, user, key)
    with refusals(_names(), key, wanted.mode):
        mode = _mode_or_default(key, wanted.mode, checked)
        _validate_mode(key, mode, is_active=True, force=wanted.force, checked=checked)
        run = once(checked, ("run", key), lambda: _run(key))
        if run.max_student_enrollments_allowed is not None:
            return None
        if not wanted.force and models.CourseEnrollment.is_enrollment_closed(user, run):
            raise models.EnrollmentClosedError
    row = models.CourseEnrollment(
        user=user, course=run, mode=models.CourseMode.DEFAULT_MODE_SLUG, is_active=False
    )
    row._course_overview = run
    return row, mode


def _add(adding: Sequence[tuple[Any, str]]) -> list[State]:
    from common.djangoapps.student import models
    from openedx_events.learning.signals import COURSE_ENROLLMENT_CREATED

    if not adding:
        return []
    rows = [row for row, _ in adding]
    first = [row.mode for row in rows]

    def become(active: bool) -> None:
        for (row, mode), mode_at_first in zip(adding, first, strict=True):
            row.mode, row.is_active = (mode, True) if active else (mode_at_first, False)

    for row in rows:
        bulk.send_pre_save(row)
    become(active=True)
    bulk.insert(rows, found_by=("user_id", "course_id"))
    become(active=False)
    history = bulk.add_history(rows)
    if history:
        become(active=True)
        bulk.add_history(rows, update=True)
        become(active=False)
    done = after_enrollments(rows, [mode for _, mode in adding])
    saved = [*history, *done.post_save]
    with _left_out(adding, done):
        for row, mode in adding:
            bulk.send_post_save(row, created=True, done=saved)
            row.save = lambda row=row: _saved_already(row, saved)
            row.update_enrollment(is_active=True, mode=mode)
            del row.save
            row.send_signal(models.EnrollStatusChange.enroll)
            COURSE_ENROLLMENT_CREATED.send_event(enrollment=_described(row))
    return [(row.mode, row.is_active) for row in rows]


@contextmanager
def _left_out(adding: Sequence[tuple[Any, str]], done: Done) -> Iterator[None]:
    """Skip receivers whose work is done, in the signals that ``update_enrollment`` sends."""
    from common.djangoapps.student.signals import ENROLLMENT_TRACK_UPDATED
    from openedx_events.learning.signals import COURSE_ENROLLMENT_CHANGED

    def of_mode(user: Any, course_key: Any, **_: Any) -> Any:
        return user.pk, course_key

    def of_event(enrollment: Any, **_: Any) -> Any:
        return enrollment.user.id, enrollment.course.course_key

    pairs = [(row.user_id, row.course_id) for row, _ in adding]
    of_another_mode = [(row.user_id, row.course_id) for row, mode in adding if row.mode != mode]
    with (
        bulk.leaving_out(COURSE_ENROLLMENT_CHANGED, done.changed, pairs, of_event),
        bulk.leaving_out(ENROLLMENT_TRACK_UPDATED, done.mode_changed, of_another_mode, of_mode),
    ):
        yield


def _saved_already(row: Any, done: Sequence[bulk.Receiver]) -> None:
    """What ``CourseEnrollment.save`` does besides the UPDATE, for a row that is already saved."""
    from common.djangoapps.student.models import course_enrollment

    bulk.send_pre_save(row)
    bulk.send_post_save(row, created=False, done=done)
    course_enrollment.cache.delete(row.enrollment_status_hash_cache_key(row.user))


def _described(row: Any) -> Any:
    from openedx_events.learning.data import (
        CourseData,
        CourseEnrollmentData,
        UserData,
        UserPersonalData,
    )

    user, run = row.user, row.course
    pii = UserPersonalData(username=user.username, email=user.email, name=user.profile.name)
    return CourseEnrollmentData(
        user=UserData(pii=pii, id=user.id, is_active=user.is_active),
        course=CourseData(course_key=run.id, display_name=run.display_name),
        mode=row.mode,
        is_active=row.is_active,
        creation_date=row.created,
    )


def _refuse_embargoed(request: Any, user: Any, key: Any) -> None:
    from openedx.core.djangoapps.embargo import api

    if api.redirect_if_blocked(request, key, user=user):
        message = f"Users from this location cannot access the course '{key}'."
        raise EnrollmentRefused(EnrollmentError.NOT_ALLOWED, message)


def _mode_or_default(key: Any, mode: str | None, checked: dict[Any, Any]) -> str:
    from openedx.core.djangoapps.enrollments import api

    if mode is not None:
        return mode
    return once(checked, ("default", key), lambda: api._default_course_mode(str(key)))


def _validate_mode(
    key: Any, mode: str, *, is_active: bool, force: bool, checked: dict[Any, Any]
) -> None:
    from openedx.core.djangoapps.enrollments import api

    once(
        checked,
        ("mode", key, mode, is_active, force),
        lambda: api.validate_course_mode(
            str(key), mode, is_active=is_active, include_expired=force
        ),
    )


def _run(key: Any) -> Any:
    """The CourseOverview. Raises NonExistentCourseError."""
    from common.djangoapps.student import models
    from openedx.core.djangoapps.content.course_overviews.models import CourseOverview

    try:
        return CourseOverview.get_from_id(key)
    except CourseOverview.DoesNotExist as error:
        raise models.NonExistentCourseError from error


def _names() -> dict[type[Exception], EnrollmentError]:
    from common.djangoapps.student import models
    from openedx.core.djangoapps.enrollments import errors
    from openedx.core.lib.exceptions import CourseNotFoundError

    return {
        models.EnrollmentNotAllowed: EnrollmentError.NOT_ALLOWED,
        errors.CourseModeNotFoundError: EnrollmentError.MODE_UNAVAILABLE,
        models.NonExistentCourseError: EnrollmentError.UNKNOWN_RUN,
        CourseNotFoundError: EnrollmentError.UNKNOWN_RUN,
        models.EnrollmentClosedError: EnrollmentError.CLOSED,
        models.CourseFullError: EnrollmentError.FULL,
        models.CourseEnrollmentException: EnrollmentError.INVALID,
    }


def _has_enrollment_filter() -> bool:
    from django.conf import settings
    from openedx_filters.learning.filters import CourseEnrollmentStarted

    filters = getattr(settings, "OPEN_EDX_FILTERS_CONFIG", None) or {}
    return CourseEnrollmentStarted.filter_type in filters


def _invited(wanted: Sequence[NewEnrollment]) -> set[tuple[int, Any]]:
    """(user id, course key) of learners who were invited to the run by e-mail address."""
    from common.djangoapps.student.models import CourseEnrollmentAllowed

    emails = {each.user.email for each in wanted}
    rows = CourseEnrollmentAllowed.objects.filter(
        email__in=emails, course_id__in={each.key for each in wanted}
    )
    found = {(email.casefold(), key) for email, key in rows.values_list("email", "course_id")}
    asked = {(each.user.email.casefold(), each.key): each for each in wanted}
    # Matched by the database's collation only: it is unknown which address matched.
    unclear = {key for email, key in found - asked.keys()}
    return {
        (each.user.pk, each.key)
        for each in wanted
        if (each.user.email.casefold(), each.key) in found or each.key in unclear
    }


def _prefetch_roles(users: Sequence[Any]) -> None:
    """Load the users' roles in one query. The platform caches them on each user object."""
    from common.djangoapps.student import roles
    from edx_django_utils.cache import RequestCache

    roles.BulkRoleCache.prefetch(users)
    for user in users:
        user._roles = roles.RoleCache(user)
    # The request cache would report no roles for all other users.
    RequestCache(roles.BulkRoleCache.CACHE_NAMESPACE).clear()
