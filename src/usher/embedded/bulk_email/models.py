"""Learners who opted out of a course's e-mails."""

from django.conf import settings
from django.db import models
from opaque_keys.edx.django.models import CourseKeyField


class Optout(models.Model):
    """A user who gets no e-mails of a run."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE)
    course_id = CourseKeyField(max_length=255, db_index=True)

    class Meta:
        unique_together = ("user", "course_id")

    def __str__(self) -> str:
        return f"{self.user_id} {self.course_id}"
