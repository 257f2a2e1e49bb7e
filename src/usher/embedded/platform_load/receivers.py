"""Receivers that run the same statements as the platform's."""

from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save, pre_save

from usher.embedded.platform_load.models import EnrollmentHistory, ForumRole, NotificationPreference
from usher.embedded.student.models import CourseEnrollment, UserProfile

#: The platform creates this number of rows for each new user.
_PREFERENCES = tuple(f"notification-{number}" for number in range(12))


def connect() -> None:
    post_save.connect(add_forum_role, sender=CourseEnrollment)
    post_save.connect(add_history, sender=CourseEnrollment)
    post_save.connect(add_preferences, sender=User)
    for model in (User, UserProfile):
        pre_save.connect(compare_with_saved, sender=model)


def add_forum_role(sender: Any, instance: CourseEnrollment, **kwargs: Any) -> None:
    role, _ = ForumRole.objects.get_or_create(course_id=instance.course_id, name="Student")
    role.users.add(instance.user)


def add_forum_roles_of(rows: Sequence[CourseEnrollment]) -> None:
    """``add_forum_role`` for many rows."""
    links = ForumRole.users.through
    roles = {
        key: ForumRole.objects.get_or_create(course_id=key, name="Student")[0].pk
        for key in sorted({row.course_id for row in rows}, key=str)
    }
    # Sorted, so that concurrent transactions insert in the same order and don't deadlock.
    pairs = sorted({(roles[row.course_id], row.user_id) for row in rows})
    links.objects.bulk_create(
        [links(forumrole_id=role, user_id=user) for role, user in pairs], ignore_conflicts=True
    )


def add_history(sender: Any, instance: CourseEnrollment, **kwargs: Any) -> None:
    _history_row(instance).save()


def add_history_of(rows: Sequence[CourseEnrollment]) -> None:
    """``add_history`` for many rows."""
    EnrollmentHistory.objects.bulk_create([_history_row(row) for row in rows])


def _history_row(row: CourseEnrollment) -> EnrollmentHistory:
    return EnrollmentHistory(
        enrollment_id=row.pk,
        user_id=row.user_id,
        course_id=row.course_id,
        mode=row.mode,
        is_active=row.is_active,
    )


def add_preferences(sender: Any, instance: User, created: bool, **kwargs: Any) -> None:
    if created:
        with transaction.atomic():
            add_preferences_of([instance])


def add_preferences_of(users: Sequence[User]) -> None:
    """``add_preferences`` for many users."""
    NotificationPreference.objects.bulk_create(
        [NotificationPreference(user=user, type=name) for user in users for name in _PREFERENCES],
        ignore_conflicts=True,
    )


def compare_with_saved(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Read the saved row before each save, as the platform does, even for a new row."""
    sender._default_manager.filter(pk=instance.pk).first()
