"""The receivers, in the platform's statements."""

from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save, pre_save

from usher.embedded.costs.models import EnrollmentHistory, ForumRole, NotificationPreference
from usher.embedded.student.models import CourseEnrollment, UserProfile

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


def add_history(sender: Any, instance: CourseEnrollment, **kwargs: Any) -> None:
    EnrollmentHistory.objects.create(
        enrollment_id=instance.pk,
        user_id=instance.user_id,
        course_id=instance.course_id,
        mode=instance.mode,
        is_active=instance.is_active,
    )


def add_preferences(sender: Any, instance: User, created: bool, **kwargs: Any) -> None:
    if created:
        with transaction.atomic():
            NotificationPreference.objects.bulk_create(
                [NotificationPreference(user=instance, type=name) for name in _PREFERENCES],
                ignore_conflicts=True,
            )


def compare_with_saved(sender: Any, instance: Any, **kwargs: Any) -> None:
    """The platform reads the saved row before each save, also of a new one."""
    sender._default_manager.filter(pk=instance.pk).first()
