"""Tables that the platform writes at each save of an enrollment, or for each new user."""

from django.contrib.auth.models import User
from django.db import models
from opaque_keys.edx.django.models import CourseKeyField


class ForumRole(models.Model):
    """A role of ``django_comment_client``. Concurrent enrollments collide in the unique index of
    the table that links roles and users."""

    name = models.CharField(max_length=30)
    course_id = CourseKeyField(max_length=255, blank=True, db_index=True)
    users = models.ManyToManyField(User, related_name="roles")

    class Meta:
        # The platform creates a course's roles once, when the course is published. Here enrollments
        # create them, so concurrent enrollments must not create them twice.
        unique_together = (("name", "course_id"),)

    def __str__(self) -> str:
        return f"{self.name} in {self.course_id}"


class EnrollmentHistory(models.Model):
    """One row for each save of an enrollment."""

    enrollment_id = models.BigIntegerField(db_index=True)
    user_id = models.BigIntegerField(db_index=True)
    course_id = CourseKeyField(max_length=255, db_index=True)
    mode = models.CharField(max_length=100)
    is_active = models.BooleanField()
    changed = models.DateTimeField(auto_now_add=True, db_index=True)

    def __str__(self) -> str:
        return f"{self.enrollment_id}: {self.mode}, active {self.is_active}"


class NotificationPreference(models.Model):
    """Several rows for each new user."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    type = models.CharField(max_length=128, db_index=True)
    web = models.BooleanField(default=True)

    class Meta:
        unique_together = (("user", "type"),)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.type}"
