"""Does the work of the platform's signal receivers for a whole batch of new users or enrollments.

A receiver that this module replaces is skipped only if its own source and the source of each
function that it calls have known fingerprints (``KNOWN``). Any other receiver runs for each row,
which is slower and equally correct. A receiver also runs for each row if it has something unusual
to do for any row of the batch, for example for learners of an enterprise customer.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from typing import Any

from django.db.models.signals import post_save, pre_save

from usher.lms.bulk import Receiver, add_history, history_receiver, insert, receivers

log = logging.getLogger(__name__)

_CERTIFICATES = "lms.djangoapps.certificates"
_GENERATION = f"{_CERTIFICATES}.generation_handler"
_FORUM = "openedx.core.djangoapps.django_comment_common.models"
_GRADES = "lms.djangoapps.grades"
_GRADE_FACTORY = f"{_GRADES}.course_grade_factory.CourseGradeFactory"
_NOTIFICATIONS = "openedx.core.djangoapps.notifications.handlers"
_PHOTO = "lms.djangoapps.verify_student.models.SoftwareSecurePhotoVerification"
_SCHEDULES = "openedx.core.djangoapps.schedules"
_STUDENT = "common.djangoapps.student"
_TOURS = "lms.djangoapps.user_tours.handlers"
_USER_API = "openedx.core.djangoapps.user_api.models"
_UTIL = "common.djangoapps.util.model_utils"

#: The value of a learner who takes no part in an experiment: the platform assigns only learners who
#: enroll themselves to one of its groups.
_NOT_IN_EXPERIMENT = "-1"
#: Fingerprints of the sources that this module replaces or relies on, by function.
KNOWN: dict[str, tuple[str, ...]] = {
    f"{_CERTIFICATES}.signals._listen_for_enrollment_mode_change": ("fbd95fffd27f9148",),
    f"{_GENERATION}.generate_certificate_task": ("227bacd85caa9eae",),
    f"{_GENERATION}.is_on_certificate_allowlist": ("4c25e92b47de9295",),
    f"{_GENERATION}._generate_regular_certificate_task": ("36afa90d2bed1770",),
    f"{_GENERATION}._can_generate_regular_certificate": ("ba81aad76f8a3e9a",),
    f"{_GENERATION}._is_passing_grade": ("0d6af28f327687b8",),
    f"{_GENERATION}._get_course_grade": ("3f7b041ac738bb0f",),
    f"{_GENERATION}._set_regular_cert_status": ("187693cc55010dda",),
    f"{_GENERATION}._can_set_regular_cert_status": ("9a74835628f7ef65",),
    f"{_GENERATION}._can_set_cert_status_common": ("6a5a6cecd4477dbc",),
    f"{_GENERATION}._is_cert_downloadable": ("5d9a78a67216f596",),
    f"{_GENERATION}._get_cert_status_common": ("bb94a4adc7fd1935",),
    f"{_GENERATION}._has_passing_grade_or_is_allowlisted": ("fb1390eaafb25d9a",),
    f"{_CERTIFICATES}.models.GeneratedCertificate.certificate_for_student": ("bf8548a911d3c519",),
    f"{_GRADE_FACTORY}.read": ("bf2402fe25119980",),
    f"{_GRADE_FACTORY}._read": ("dde8cea78efbaf97",),
    f"{_GRADE_FACTORY}._create_zero": ("8455d1d23487c585",),
    f"{_GRADES}.course_grade.CourseGradeBase": ("bc9603f72035057b",),
    f"{_GRADES}.course_grade.ZeroCourseGrade": ("64b71a4616402ce8",),
    f"{_GRADES}.models.PersistentCourseGrade.read": ("d29ef760918ffcb5",),
    f"{_GRADES}.signals.handlers.recalculate_course_and_subsection_grades": ("7c0b21cb157ac253",),
    f"{_GRADES}.tasks.recalculate_course_and_subsection_grades_for_user": ("840be0e3fe35c0e5",),
    f"{_STUDENT}.models.course_enrollment.update_expiry_email_date": ("e2b5888ec65ff85a",),
    f"{_STUDENT}.models.user.is_email_retired": ("b1ce4911dfc61e14",),
    f"{_STUDENT}.models.user.is_username_retired": ("55be88ed943a7802",),
    f"{_STUDENT}.models.user.user_pre_save_callback": ("acad59b8911e9d83",),
    f"{_STUDENT}.models.user.user_profile_pre_save_callback": ("c3544b5ceb3881df",),
    f"{_STUDENT}.signals.receivers.on_user_updated": ("aec6359594ac83d8",),
    f"{_UTIL}.get_changed_fields_dict": ("806b9fcd025d1677",),
    "enterprise.signals.course_enrollment_changed_receiver": ("96ef0e11eba14dfc",),
    "enterprise.signals.create_enterprise_enrollment_receiver": ("182dba71dc75b590",),
    "enterprise.signals.handle_user_post_save": ("7ef734b25e4a7e66",),
    f"{_TOURS}.init_user_tour": ("0274162a0cc96fc8",),
    f"{_PHOTO}.get_recent_verification": ("a62a61d8725bd4ea",),
    f"{_PHOTO}.update_expiry_email_date_for_user": ("815535896fbe44c2",),
    f"{_FORUM}.assign_default_role": ("3e684bd63d0427b9",),
    f"{_FORUM}.assign_default_role_on_enrollment": ("badfb086e493c982",),
    f"{_FORUM}.assign_role": ("b15a674d3c92cd4a",),
    f"{_NOTIFICATIONS}.create_user_account_preferences": ("80ba935e076aa25a",),
    f"{_SCHEDULES}.config.set_up_external_updates_for_enrollment": ("1cee0edb83d7df95",),
    f"{_SCHEDULES}.signals._create_schedule": ("ecbf4c6e98816ac2",),
    f"{_SCHEDULES}.signals.create_schedule": ("b97bd285242b7050",),
    f"{_SCHEDULES}.signals.reset_schedule_on_mode_change": ("7082e8610f12357c",),
    f"{_SCHEDULES}.utils.reset_self_paced_schedule": ("fca06668e09a5048",),
    f"{_USER_API}.pre_save_callback": ("de87eaac8b059aa2",),
}


def fingerprint(function: Any) -> str:
    """First 16 hex digits of the SHA-256 of the source, without comments and blanks."""
    source = inspect.getsource(inspect.unwrap(function))
    return hashlib.sha256(re.sub(r"#.*|\s+", "", source).encode()).hexdigest()[:16]


@cache
def _known_function(name: str, *relied_on: str) -> Any:
    """The function ``module.name`` or ``module.Class.name``, if its source and the sources of
    ``relied_on`` are known; otherwise None."""
    for function_name in (name, *relied_on):
        try:
            if fingerprint(_import_function(function_name)) in KNOWN[function_name]:
                continue
        except (ImportError, AttributeError, OSError, TypeError):
            pass  # another release of the platform
        log.info(
            "The source of %s is not a known one; its receiver runs for each row.", function_name
        )
        return None
    return _import_function(name)


def _known_receiver(
    signal: Any, sender: type[Any] | None, name: str, *relied_on: str
) -> Receiver | None:
    """The known receiver, if it is connected to ``signal`` for ``sender`` (None: any sender);
    otherwise None."""
    receiver = _known_function(name, *relied_on)
    return receiver if receiver in receivers(signal, sender) else None


def _import_function(name: str) -> Any:
    """The function ``module.name``, or the method ``module.Class.name``."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except ImportError:
        module, _, owner = module.rpartition(".")
        return getattr(getattr(import_module(module), owner), attribute)


# --- accounts --------------------------------------------------------------------------------


def before_inserting_users(users: Sequence[Any]) -> list[Receiver]:
    """Do the work of the ``pre_save`` receivers of new users; return the replaced receivers.

    A new user has no changed fields, and the batch has already checked that no username or e-mail
    address is a retired user's.
    """
    retirement_receiver = _known_receiver(
        pre_save,
        type(users[0]),
        f"{_STUDENT}.signals.receivers.on_user_updated",
        f"{_STUDENT}.models.user.is_username_retired",
        f"{_STUDENT}.models.user.is_email_retired",
    )
    name = f"{_STUDENT}.models.user.user_pre_save_callback"
    return [
        *_set_as_unchanged(users, name, attribute="_changed_fields", make_value=dict),
        *filter(None, [retirement_receiver]),
    ]


def before_inserting_profiles(profiles: Sequence[Any]) -> list[Receiver]:
    """Do the work of the ``pre_save`` receiver of new profiles; return the replaced receiver, or an
    empty list if the receiver is not a known one."""
    name = f"{_STUDENT}.models.user.user_profile_pre_save_callback"
    return _set_as_unchanged(profiles, name, attribute="_changed_fields", make_value=dict)


def before_inserting_preferences(preferences: Sequence[Any]) -> list[Receiver]:
    """As ``before_inserting_profiles``, for new preferences."""
    name = f"{_USER_API}.pre_save_callback"
    return _set_as_unchanged(preferences, name, attribute="_old_value", make_value=lambda: None)


def _set_as_unchanged(
    rows: Sequence[Any], receiver_name: str, *, attribute: str, make_value: Callable[[], Any]
) -> list[Receiver]:
    """Set the attribute in which a ``pre_save`` receiver stores the changes of a row: a new row has
    none. make_value: returns the attribute's value for no changes.

    Return the receiver, which then need not be called; an empty list if the receiver is not a known
    one."""
    relied_on = f"{_UTIL}.get_changed_fields_dict"
    receiver = _known_receiver(pre_save, type(rows[0]), receiver_name, relied_on)
    if not receiver:
        return []
    for row in rows:
        setattr(row, attribute, make_value())
    return [receiver]


def after_inserting_users(users: Sequence[Any]) -> list[Receiver]:
    """Do the work of the ``post_save`` receivers of new users; return the replaced receivers."""
    candidates = [
        _add_tours(users),
        _add_notification_preferences(users),
        _idle_enterprise_user_receiver(users),
    ]
    return [receiver for receiver in candidates if receiver]


def _add_tours(users: Sequence[Any]) -> Receiver | None:
    """Add the users' tours in place of the platform's receiver, and return that receiver. If it is
    not a known one, add nothing and return None."""
    receiver = _known_receiver(post_save, type(users[0]), f"{_TOURS}.init_user_tour")
    if receiver:
        from lms.djangoapps.user_tours.models import UserTour

        insert([UserTour(user=user) for user in users], unique_fields=("user_id",))
    return receiver


def _add_notification_preferences(users: Sequence[Any]) -> Receiver | None:
    """As ``_add_tours``, for notification preferences."""
    receiver = _known_receiver(
        post_save, type(users[0]), f"{_NOTIFICATIONS}.create_user_account_preferences"
    )
    if receiver:
        from openedx.core.djangoapps.notifications import handlers

        rows = [
            handlers.create_notification_preference(user.id, name)
            for user in users
            for name in handlers.COURSE_NOTIFICATION_TYPES
        ]
        handlers.NotificationPreference.objects.bulk_create(rows, ignore_conflicts=True)
    return receiver


def _idle_enterprise_user_receiver(users: Sequence[Any]) -> Receiver | None:
    """The receiver, if no user has anything to do with an enterprise customer; otherwise None."""
    receiver = _known_receiver(
        post_save, type(users[0]), "enterprise.signals.handle_user_post_save"
    )
    if receiver:
        from enterprise.models import EnterpriseCustomerUser, PendingEnterpriseCustomerUser

        emails, ids = [user.email for user in users], [user.pk for user in users]
        if PendingEnterpriseCustomerUser.objects.filter(user_email__in=emails).exists():
            return None
        if EnterpriseCustomerUser.objects.filter(user_id__in=ids).exists():
            return None
    return receiver


# --- enrollments -----------------------------------------------------------------------------


@dataclass(frozen=True)
class DoneReceivers:
    """Receivers whose work is done for all rows of a batch, by signal."""

    post_save: list[Receiver]
    #: COURSE_ENROLLMENT_CHANGED of openedx-events.
    changed: list[Receiver]
    #: ENROLLMENT_TRACK_UPDATED, which the platform sends when a mode changes.
    mode_changed: list[Receiver]


def after_inserting_enrollments(rows: Sequence[Any], modes: Sequence[str]) -> DoneReceivers:
    """Do the work of the receivers of new enrollments; return these receivers, and those that have
    nothing to do for these rows.

    rows: CourseEnrollment, inserted, with the attributes they have before they become active.
    modes: the mode that each row will have.
    """
    _add_external_updates(rows)
    schedule_receiver, reset_receiver = _add_schedules(rows, modes)
    save_receivers = [
        schedule_receiver,
        _add_forum_roles(rows),
        _idle_verification_receiver(rows, modes),
        _idle_enterprise_receiver(rows),
    ]
    mode_changed = [reset_receiver]
    if any(row.mode != mode for row, mode in zip(rows, modes, strict=True)):
        mode_changed += _idle_certificate_and_grade_receivers(rows)
    return DoneReceivers(
        post_save=[receiver for receiver in save_receivers if receiver],
        changed=[receiver for receiver in [_idle_enterprise_enrollment_receiver(rows)] if receiver],
        mode_changed=[receiver for receiver in mode_changed if receiver],
    )


def _add_schedules(
    rows: Sequence[Any], modes: Sequence[str]
) -> tuple[Receiver | None, Receiver | None]:
    """Add the schedules with their final start date, which in self-paced runs depends on the mode.

    Returns two receivers that need not be called: of ``post_save``, and of the change of mode. None
    in place of a receiver that has to be called.
    """
    receiver = _known_receiver(
        post_save,
        type(rows[0]),
        f"{_SCHEDULES}.signals.create_schedule",
        f"{_SCHEDULES}.signals._create_schedule",
    )
    if receiver is None:
        return None, None
    from openedx.core.djangoapps.schedules import signals

    if receivers(signals.post_save, signals.Schedule) != [history_receiver(signals.Schedule)]:
        # Some other receiver has to see each saved schedule.
        return None, None
    schedules = []
    for row in rows:
        start = max(row.created, row.course_overview.start)
        deadline = signals._calculate_upgrade_deadline(row.course_id, start)
        schedules.append(
            signals.Schedule(enrollment=row, start_date=start, upgrade_deadline=deadline)
        )
    reset_receiver = _receiver_of_mode_change(
        f"{_SCHEDULES}.signals.reset_schedule_on_mode_change",
        f"{_SCHEDULES}.utils.reset_self_paced_schedule",
    )
    reset_schedules, final_starts = [], []
    for schedule, row, mode in zip(schedules, rows, modes, strict=True):
        final_start = schedule.start_date
        if reset_receiver and mode != row.mode and row.course.self_paced:
            # As ``reset_self_paced_schedule``: a learner in a paid mode starts now.
            starts_now = mode not in signals.CourseMode.AUDIT_MODES
            start = datetime.now(UTC) if starts_now else row.created
            final_start = max(start, row.course.start)
            reset_schedules.append(schedule)
        final_starts.append(final_start)
    _insert_schedules(schedules, final_starts, reset_schedules)
    experiences = [
        signals.ScheduleExperience(
            schedule=schedule, experience_type=signals._get_experience_type(row)
        )
        for schedule, row in zip(schedules, rows, strict=True)
    ]
    insert(experiences, unique_fields=("schedule_id",))
    return receiver, reset_receiver


def _insert_schedules(
    schedules: Sequence[Any], final_starts: Sequence[datetime], reset_schedules: Sequence[Any]
) -> None:
    """Insert the schedules with their final start dates. The history gets each schedule with its
    first start date, and those in ``reset_schedules`` also with the final one, as the platform
    writes them one after another."""
    first_starts = [schedule.start_date for schedule in schedules]

    def set_starts(starts: Sequence[datetime]) -> None:
        for schedule, start in zip(schedules, starts, strict=True):
            schedule.start_date = start

    set_starts(final_starts)
    insert(schedules, unique_fields=("enrollment_id",))
    set_starts(first_starts)
    add_history(schedules)
    set_starts(final_starts)
    if reset_schedules:
        add_history(reset_schedules, update=True)


def _receiver_of_mode_change(name: str, *relied_on: str) -> Receiver | None:
    """The known receiver, if it is connected to the signal of a changed mode; otherwise None."""
    from common.djangoapps.student.signals import ENROLLMENT_TRACK_UPDATED

    any_sender = None
    return _known_receiver(ENROLLMENT_TRACK_UPDATED, any_sender, name, *relied_on)


def _idle_certificate_and_grade_receivers(rows: Sequence[Any]) -> list[Receiver | None]:
    """The receivers of a change of mode that have nothing to do for these rows. One handles grades,
    and one certificates and entries in a certificate allowlist."""
    functions_that_read_a_grade = (
        f"{_GRADE_FACTORY}.read",
        f"{_GRADE_FACTORY}._read",
        f"{_GRADE_FACTORY}._create_zero",
        f"{_GRADES}.course_grade.CourseGradeBase",
        f"{_GRADES}.course_grade.ZeroCourseGrade",
        f"{_GRADES}.models.PersistentCourseGrade.read",
    )
    grade_receiver = _receiver_of_mode_change(
        f"{_GRADES}.signals.handlers.recalculate_course_and_subsection_grades",
        f"{_GRADES}.tasks.recalculate_course_and_subsection_grades_for_user",
        *functions_that_read_a_grade,
    )
    certificate_receiver = _receiver_of_mode_change(
        f"{_CERTIFICATES}.signals._listen_for_enrollment_mode_change",
        f"{_CERTIFICATES}.models.GeneratedCertificate.certificate_for_student",
        *(name for name in KNOWN if name.startswith(_GENERATION)),
        *functions_that_read_a_grade,
    )
    if not grade_receiver and not certificate_receiver:
        return []
    from lms.djangoapps.certificates.models import CertificateAllowlist, GeneratedCertificate
    from lms.djangoapps.grades.models import PersistentCourseGrade

    users, keys = {row.user_id for row in rows}, {row.course_id for row in rows}

    def has_any(model: Any) -> bool:
        return bool(model.objects.filter(user_id__in=users, course_id__in=keys).exists())

    if has_any(PersistentCourseGrade):
        return []
    if has_any(CertificateAllowlist) or has_any(GeneratedCertificate):
        certificate_receiver = None
    return [grade_receiver, certificate_receiver]


def _add_forum_roles(rows: Sequence[Any]) -> Receiver | None:
    """Add the forum role *Student* of each run, and return the receiver that would add it; None,
    and add nothing, if the receiver has to be called."""
    receiver = _known_receiver(
        post_save,
        type(rows[0]),
        f"{_FORUM}.assign_default_role_on_enrollment",
        f"{_FORUM}.assign_default_role",
        f"{_FORUM}.assign_role",
    )
    if receiver is None:
        return None
    from django.db.models.signals import m2m_changed
    from openedx.core.djangoapps.django_comment_common import models

    from usher.lms import locks

    links = models.Role.users.through
    if set(receivers(m2m_changed, links)) - {locks.no_operation}:
        # Some other receiver has to see each added role, and ``bulk_create`` sends no signal.
        return None
    keys = {row.course_id for row in rows}
    student_roles = models.Role.objects.filter(course_id__in=keys, name=models.FORUM_ROLE_STUDENT)
    roles = {role.course_id: role.pk for role in student_roles}
    if keys - roles.keys() or len(student_roles) != len(keys):
        # A run has no such role yet, or more than one.
        return None
    pairs = {(roles[row.course_id], row.user_id) for row in rows}
    present = links.objects.filter(
        role_id__in=roles.values(), user_id__in={user for _, user in pairs}
    )
    missing = pairs - set(present.values_list("role_id", "user_id"))
    links.objects.bulk_create(
        [links(role_id=role, user_id=user) for role, user in sorted(missing)],
        ignore_conflicts=True,
    )
    return receiver


def _idle_verification_receiver(rows: Sequence[Any], modes: Iterable[str]) -> Receiver | None:
    """The receiver that sets the expiry date of learners' approved identity verifications, if there
    is nothing to set: no enrollment is in the verified mode, or no learner has an approved
    verification. Otherwise, and if the receiver is not a known one, None."""
    receiver = _known_receiver(
        post_save,
        type(rows[0]),
        f"{_STUDENT}.models.course_enrollment.update_expiry_email_date",
        f"{_PHOTO}.update_expiry_email_date_for_user",
        f"{_PHOTO}.get_recent_verification",
    )
    if receiver is None:
        return None
    from common.djangoapps.course_modes.models import CourseMode
    from lms.djangoapps.verify_student.models import SoftwareSecurePhotoVerification

    # The receiver acts on enrollments in this mode only.
    if CourseMode.VERIFIED in {*modes, *(row.mode for row in rows)}:
        users = {row.user_id for row in rows}
        approved = SoftwareSecurePhotoVerification.objects.filter(
            status="approved", user_id__in=users
        )
        if approved.exists():
            return None
    return receiver


def _idle_enterprise_receiver(rows: Sequence[Any]) -> Receiver | None:
    """The receiver, if no learner belongs to an enterprise customer; otherwise None."""
    receiver = _known_receiver(
        post_save, type(rows[0]), "enterprise.signals.create_enterprise_enrollment_receiver"
    )
    if receiver:
        from enterprise.models import EnterpriseCustomerUser

        users = {row.user_id for row in rows}
        if EnterpriseCustomerUser.objects.filter(user_id__in=users, active=True).exists():
            return None
    return receiver


def _idle_enterprise_enrollment_receiver(rows: Sequence[Any]) -> Receiver | None:
    """The receiver, if no learner has an enrollment of an enterprise customer; otherwise None."""
    from openedx_events.learning.signals import COURSE_ENROLLMENT_CHANGED

    any_sender = None
    receiver = _known_receiver(
        COURSE_ENROLLMENT_CHANGED,
        any_sender,
        "enterprise.signals.course_enrollment_changed_receiver",
    )
    if receiver is None:
        return None
    from enterprise.models import EnterpriseCourseEnrollment

    users = {row.user_id for row in rows}
    present = EnterpriseCourseEnrollment.objects.filter(enterprise_customer_user__user_id__in=users)
    return None if present.exists() else receiver


def _add_external_updates(rows: Sequence[Any]) -> None:
    """Record for learners who are enrolled by somebody else that they take no part in the
    experiment *external course updates*, unless they have a row already."""
    if _known_function(f"{_SCHEDULES}.config.set_up_external_updates_for_enrollment") is None:
        return
    from crum import get_current_request
    from lms.djangoapps.experiments.models import ExperimentData
    from openedx.core.djangoapps.schedules import config

    request = get_current_request()
    caller = getattr(getattr(request, "user", None), "id", None)
    experiment = config._EXTERNAL_COURSE_UPDATES_EXPERIMENT_ID
    pairs = {(row.user_id, str(row.course_id)) for row in rows if row.user_id != caller}
    present = ExperimentData.objects.filter(
        experiment_id=experiment,
        user_id__in={user for user, _ in pairs},
        key__in={key for _, key in pairs},
    )
    missing = sorted(pairs - set(present.values_list("user_id", "key")))
    ExperimentData.objects.bulk_create(
        [
            ExperimentData(
                experiment_id=experiment, user_id=user, key=key, value=_NOT_IN_EXPERIMENT
            )
            for user, key in missing
        ]
    )
