"""Changes enrollments of edx-platform, one at a time or in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from usher.lms import bulk
from usher.lms.enrollments import (
    NewEnrollment,
    State,
    Step,
    compute_once,
    next_step,
    raising_refusals,
)
from usher.lms.errors import EnrollmentError, EnrollmentRefused
from usher.lms.platform_receivers import DoneReceivers, after_inserting_enrollments


class UnsavedRow(NamedTuple):
    """A CourseEnrollment as the platform first inserts it (inactive, in the default mode), and the
    mode that it finally has."""

    row: Any
    final_mode: str


def set_enrollment(
    request: Any,
    user: Any,
    key: Any,
    *,
    mode: str | None,
    is_active: bool,
    force: bool,
    current_state: State | None,
    cache: dict[Any, Any],
) -> State:
    """Set one enrollment's mode and ``is_active``; return its state afterwards.

    Does what ``POST /api/enrollment/v1/enrollment`` does for a staff user, with the same rules,
    rows and signals. Unlike the view, this function returns no description of the course, and
    leaves out two redundant saves. force: enroll even in a closed run or an expired mode.
    current_state: None without an enrollment. cache: runs and modes, shared by a batch. Raises
    EnrollmentRefused.
    """
    from common.djangoapps.student import models

    _refuse_embargoed(request, user, key)
    with raising_refusals(_error_codes(), key, mode):
        enrollment: Any = None
        if current_state is not None:
            # Read again: the row is needed, and may have changed since the batch read it.
            enrollment = models.CourseEnrollment.objects.filter(user=user, course_id=key).first()
            current_state = (enrollment.mode, enrollment.is_active) if enrollment else None
        step = next_step(
            current_state, mode=mode, is_active=is_active, username=user.username, key=key
        )
        if current_state is not None and step is Step.NOTHING:
            return current_state
        if step is Step.ADD:
            mode = _mode_or_default(key, mode, cache)
        if mode is not None:
            _validate_mode(key, mode, is_active=is_active, force=force, cache=cache)
        if step is Step.ADD:
            try:
                # Enroll in the requested mode. The platform's view uses the default mode first.
                enrollment = models.CourseEnrollment.enroll(
                    user, key, mode=mode, check_access=True, can_upgrade=force
                )
            except models.AlreadyEnrolledError:
                # Another request has enrolled the learner since this batch read the database.
                enrollment = models.CourseEnrollment.objects.get(user=user, course_id=key)
        if (mode or enrollment.mode, is_active) != (enrollment.mode, enrollment.is_active):
            enrollment.user = user
            enrollment.update_enrollment(is_active=is_active, mode=mode)
    return enrollment.mode, enrollment.is_active


def add_enrollments(
    request: Any, new_enrollments: Sequence[NewEnrollment], cache: dict[Any, Any]
) -> list[State | EnrollmentRefused | None]:
    """Enroll learners who have no row in the run, in one batch. Returns for each enrollment its
    state afterwards, a refusal, or None.

    None: nothing was done, and the caller has to use ``set_enrollment``, because the learner was
    invited, the run has a limited number of places, or the LMS has an enrollment filter.

    Rows and signals are those of ``CourseEnrollment.enroll``, which inserts an inactive row in the
    default mode and then updates it. Here the row is inserted in its final state; receivers and
    history get the row twice, in both states.
    """
    outcomes: list[State | EnrollmentRefused | None] = [None] * len(new_enrollments)
    if _has_enrollment_filter() or not new_enrollments:
        return outcomes
    invited = _find_invited(new_enrollments)
    # Roles decide whether a learner may enroll in a closed run; ``force`` allows it to everybody.
    users_by_pk = {
        enrollment.user.pk: enrollment.user
        for enrollment in new_enrollments
        if not enrollment.force
    }
    _prefetch_roles(list(users_by_pk.values()))
    unsaved_rows: dict[int, UnsavedRow] = {}  # index of the enrollment → row
    for number, enrollment in enumerate(new_enrollments):
        if (enrollment.user.pk, enrollment.key) in invited:
            continue
        try:
            new_row = _make_unsaved_row(request, enrollment, cache)
        except EnrollmentRefused as refusal:
            outcomes[number] = refusal
            continue
        if new_row is not None:
            unsaved_rows[number] = new_row
    states = _insert_rows([*unsaved_rows.values()])
    for number, state in zip(unsaved_rows, states, strict=True):
        outcomes[number] = state
    return outcomes


def _make_unsaved_row(
    request: Any, new_enrollment: NewEnrollment, cache: dict[Any, Any]
) -> UnsavedRow | None:
    """The row to insert; None if the run has a limited number of places, which are not counted for
    a whole batch. Raises EnrollmentRefused."""
    from common.djangoapps.student import models

    user, key = new_enrollment.user, new_enrollment.key
    _refuse_embargoed(request, user, key)
    with raising_refusals(_error_codes(), key, new_enrollment.mode):
        mode = _mode_or_default(key, new_enrollment.mode, cache)
        _validate_mode(key, mode, is_active=True, force=new_enrollment.force, cache=cache)
        run = compute_once(cache, ("run", key), lambda: _read_run(key))
        if run.max_student_enrollments_allowed is not None:
            return None
        if not new_enrollment.force and models.CourseEnrollment.is_enrollment_closed(user, run):
            raise models.EnrollmentClosedError
    # As the platform first inserts it: see ``UnsavedRow``.
    row = models.CourseEnrollment(
        user=user, course=run, mode=models.CourseMode.DEFAULT_MODE_SLUG, is_active=False
    )
    row._course_overview = run
    return UnsavedRow(row, mode)


def _insert_rows(unsaved_rows: Sequence[UnsavedRow]) -> list[State]:
    """Insert rows in their final state; return the states.

    History and receivers get each row twice: as the platform first inserts it, and in its final
    state.
    """
    from common.djangoapps.student import models
    from openedx_events.learning.signals import COURSE_ENROLLMENT_CREATED

    if not unsaved_rows:
        return []
    rows = [row for row, _ in unsaved_rows]
    first_modes = [row.mode for row in rows]

    # Both change the rows in memory only.
    def set_final_state() -> None:
        for row, final_mode in unsaved_rows:
            row.mode, row.is_active = final_mode, True

    def set_first_state() -> None:
        for row, first_mode in zip(rows, first_modes, strict=True):
            row.mode, row.is_active = first_mode, False

    for row in rows:
        bulk.send_pre_save(row)
    set_final_state()
    bulk.insert(rows, unique_fields=("user_id", "course_id"))
    set_first_state()
    history_receivers = bulk.add_history(rows)
    if history_receivers:
        set_final_state()
        bulk.add_history(rows, update=True)
        set_first_state()
    done_receivers = after_inserting_enrollments(
        rows, [final_mode for _, final_mode in unsaved_rows]
    )
    save_receivers = [*history_receivers, *done_receivers.post_save]
    with _skip_done_receivers(unsaved_rows, done_receivers):
        for row, mode in unsaved_rows:
            bulk.send_post_save(row, created=True, replaced=save_receivers)
            # ``update_enrollment`` saves the row, which is already in its final state.
            row.save = lambda row=row: _send_signals_of_second_save(row, save_receivers)
            row.update_enrollment(is_active=True, mode=mode)
            del row.save
            row.send_signal(models.EnrollStatusChange.enroll)
            COURSE_ENROLLMENT_CREATED.send_event(enrollment=_enrollment_event_data(row))
    return [(row.mode, row.is_active) for row in rows]


@contextmanager
def _skip_done_receivers(
    unsaved_rows: Sequence[UnsavedRow], done_receivers: DoneReceivers
) -> Iterator[None]:
    """Skip receivers whose work is done, in the signals that ``update_enrollment`` sends."""
    from common.djangoapps.student.signals import ENROLLMENT_TRACK_UPDATED
    from openedx_events.learning.signals import COURSE_ENROLLMENT_CHANGED

    def pair_of_mode_change(user: Any, course_key: Any, **_: Any) -> Any:
        return user.pk, course_key

    def pair_of_event(enrollment: Any, **_: Any) -> Any:
        return enrollment.user.id, enrollment.course.course_key

    pairs = [(row.user_id, row.course_id) for row, _ in unsaved_rows]
    pairs_with_mode_change = [
        (row.user_id, row.course_id) for row, mode in unsaved_rows if row.mode != mode
    ]
    with (
        bulk.skipping_receivers(
            COURSE_ENROLLMENT_CHANGED, done_receivers.changed, pairs, pair_of_event
        ),
        bulk.skipping_receivers(
            ENROLLMENT_TRACK_UPDATED,
            done_receivers.mode_changed,
            pairs_with_mode_change,
            pair_of_mode_change,
        ),
    ):
        yield


def _send_signals_of_second_save(row: Any, done_receivers: Sequence[bulk.Receiver]) -> None:
    """Do what ``CourseEnrollment.save`` does for a saved row, but without the UPDATE statement,
    because the row was inserted in its final state. done_receivers: receivers of ``post_save`` to
    skip."""
    from common.djangoapps.student.models import course_enrollment

    bulk.send_pre_save(row)
    bulk.send_post_save(row, created=False, replaced=done_receivers)
    course_enrollment.cache.delete(row.enrollment_status_hash_cache_key(row.user))


def _enrollment_event_data(row: Any) -> Any:
    """The payload of an event of openedx-events about the enrollment."""
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
    """Raises EnrollmentRefused if the platform's embargo keeps this user out of the run."""
    from openedx.core.djangoapps.embargo import api

    if api.redirect_if_blocked(request, key, user=user):
        message = f"Users from this location cannot access the course '{key}'."
        raise EnrollmentRefused(EnrollmentError.NOT_ALLOWED, message)


def _mode_or_default(key: Any, mode: str | None, cache: dict[Any, Any]) -> str:
    from openedx.core.djangoapps.enrollments import api

    if mode is not None:
        return mode
    return compute_once(cache, ("default", key), lambda: api._default_course_mode(str(key)))


def _validate_mode(
    key: Any, mode: str, *, is_active: bool, force: bool, cache: dict[Any, Any]
) -> None:
    """Raises the platform's CourseModeNotFoundError if the run does not offer the mode now. force:
    accept an expired mode too."""
    from openedx.core.djangoapps.enrollments import api

    compute_once(
        cache,
        ("mode", key, mode, is_active, force),
        lambda: api.validate_course_mode(
            str(key), mode, is_active=is_active, include_expired=force
        ),
    )


def _read_run(key: Any) -> Any:
    """The CourseOverview. Raises NonExistentCourseError."""
    from common.djangoapps.student import models
    from openedx.core.djangoapps.content.course_overviews.models import CourseOverview

    try:
        return CourseOverview.get_from_id(key)
    except CourseOverview.DoesNotExist as error:
        raise models.NonExistentCourseError from error


def _error_codes() -> dict[type[Exception], EnrollmentError]:
    """Exceptions of the platform → the EnrollmentError that reports them. The last one is the base
    class of several others, see ``raising_refusals``."""
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


def _find_invited(new_enrollments: Sequence[NewEnrollment]) -> set[tuple[int, Any]]:
    """(user id, course key) of learners who were invited to the run by e-mail address."""
    from common.djangoapps.student.models import CourseEnrollmentAllowed

    emails = {enrollment.user.email for enrollment in new_enrollments}
    rows = CourseEnrollmentAllowed.objects.filter(
        email__in=emails, course_id__in={enrollment.key for enrollment in new_enrollments}
    )
    invitations = {(email.casefold(), key) for email, key in rows.values_list("email", "course_id")}
    enrollments_by_email_and_run = {
        (enrollment.user.email.casefold(), enrollment.key): enrollment
        for enrollment in new_enrollments
    }
    # Runs with an invitation that matched in the database only, by its collation. Nobody can tell
    # which learner the invitation is for, so all learners of these runs count as invited.
    runs_with_unclear_invitations = {
        key for email, key in invitations - enrollments_by_email_and_run.keys()
    }
    return {
        (enrollment.user.pk, enrollment.key)
        for enrollment in new_enrollments
        if (enrollment.user.email.casefold(), enrollment.key) in invitations
        or enrollment.key in runs_with_unclear_invitations
    }


def _prefetch_roles(users: Sequence[Any]) -> None:
    """Load the users' roles in one query. The platform caches them on each user object."""
    from common.djangoapps.student import roles
    from edx_django_utils.cache import RequestCache

    roles.BulkRoleCache.prefetch(users)
    for user in users:
        user._roles = roles.RoleCache(user)
    # As long as these roles are in the request cache, the platform finds no roles of other users.
    RequestCache(roles.BulkRoleCache.CACHE_NAMESPACE).clear()
