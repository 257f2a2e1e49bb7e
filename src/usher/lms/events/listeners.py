"""Signal receivers that fill the outbox: of openedx-events, and of Django's signals for users,
profiles and links.

openedx-events are the platform's public API for plugins. The platform's private signals are not
used.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models.signals import post_save, pre_save

from usher.contract.events import EventType
from usher.lms import conf
from usher.lms.events import outbox

#: When one of these fields of a user changes, the applications are notified.
USER_FIELDS = ("username", "email", "is_active")
UID = "usher.lms.events"


def connect() -> None:
    """Connect the receivers."""
    from openedx_events.learning import signals
    from social_django.models import UserSocialAuth

    user, profile = get_user_model(), conf.platform().profile_model()
    for signal in (
        signals.COURSE_ENROLLMENT_CREATED,
        signals.COURSE_ENROLLMENT_CHANGED,
        signals.COURSE_UNENROLLMENT_COMPLETED,
    ):
        signal.connect(on_enrollment, dispatch_uid=UID)
    for signal in (
        signals.CERTIFICATE_CREATED,
        signals.CERTIFICATE_CHANGED,
        signals.CERTIFICATE_REVOKED,
    ):
        signal.connect(on_certificate, dispatch_uid=UID)
    signals.PERSISTENT_GRADE_SUMMARY_CHANGED.connect(on_grade, dispatch_uid=UID)
    post_save.connect(on_link, sender=UserSocialAuth, dispatch_uid=UID)
    for model in (user, profile):
        pre_save.connect(note_changes_before_save, sender=model, dispatch_uid=UID)
        post_save.connect(record_change_after_save, sender=model, dispatch_uid=UID)


def on_enrollment(sender: Any = None, enrollment: Any = None, **kwargs: Any) -> None:
    """Record that an enrollment changed. enrollment: openedx_events CourseEnrollmentData."""
    _record_change_in_run(EventType.ENROLLMENT, enrollment.user, enrollment.course)


def on_certificate(sender: Any = None, certificate: Any = None, **kwargs: Any) -> None:
    """Record that a certificate changed. certificate: openedx_events CertificateData."""
    _record_change_in_run(EventType.CERTIFICATE, certificate.user, certificate.course)


def on_grade(sender: Any = None, grade: Any = None, **kwargs: Any) -> None:
    """Record that a grade changed. grade: openedx_events PersistentCourseGradeData, which names the
    user by id only."""
    users = get_user_model().objects.filter(pk=grade.user_id)
    username = users.values_list("username", flat=True).first()
    if username is not None:
        outbox.record_change(EventType.GRADE, grade.user_id, username, str(grade.course.course_key))


def _record_change_in_run(kind: EventType, user: Any, course: Any) -> None:
    outbox.record_change(kind, user.id, user.pii.username, str(course.course_key))


def on_link(sender: Any, instance: Any, created: bool, **kwargs: Any) -> None:
    """Notify the application of a new link, because its learner now has another LMS account, or the
    first one."""
    if created:
        outbox.record_change(EventType.ACCOUNT, instance.user_id, instance.user.username)


def note_changes_before_save(
    sender: Any, instance: Any, update_fields: Any = None, **kwargs: Any
) -> None:
    """Set ``_usher_changes`` on the instance: whether this save changes a field that applications
    use. False for a new user or profile: its link, which follows, is recorded instead."""
    if instance._state.adding:
        instance._usher_changes = False
        return
    fields = USER_FIELDS if sender is get_user_model() else ("name",)
    if update_fields is not None and not set(update_fields) & set(fields):
        instance._usher_changes = False
        return
    saved_values = sender._default_manager.filter(pk=instance.pk).values(*fields).first()
    instance._usher_changes = saved_values is not None and any(
        saved_values[field] != getattr(instance, field) for field in fields
    )


def record_change_after_save(sender: Any, instance: Any, created: bool, **kwargs: Any) -> None:
    """Record the change that ``note_changes_before_save`` found. A new user or profile is left out:
    the link that follows it is recorded."""
    if created or not getattr(instance, "_usher_changes", False):
        return
    user = instance if sender is get_user_model() else instance.user
    outbox.record_change(EventType.ACCOUNT, user.pk, user.username)
