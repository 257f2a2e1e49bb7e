"""Stored course grades."""

from django.db import models
from opaque_keys.edx.django.models import CourseKeyField

from usher.embedded.core.models import TimeStampedModel


class PersistentCourseGrade(TimeStampedModel):
    """``percent_grade`` from 0 to 1; ``passed_timestamp`` is set once, when first passed."""

    id = models.BigAutoField(primary_key=True)
    user_id = models.IntegerField(db_index=True)
    course_id = CourseKeyField(max_length=255)
    course_edited_timestamp = models.DateTimeField(blank=True, null=True)
    course_version = models.CharField(blank=True, max_length=255)
    grading_policy_hash = models.CharField(max_length=255, default="")
    percent_grade = models.FloatField()
    letter_grade = models.CharField(blank=True, max_length=255)
    passed_timestamp = models.DateTimeField(blank=True, null=True)

    class Meta:
        app_label = "grades"
        unique_together = (("course_id", "user_id"),)
        indexes = [models.Index(fields=["passed_timestamp", "course_id"])]

    def __str__(self) -> str:
        return f"{self.user_id} in {self.course_id}: {self.percent_grade}"
