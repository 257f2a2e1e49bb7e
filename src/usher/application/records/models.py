"""Learners' grades and certificates, copied from the LMS."""

from django.conf import settings
from django.db import models

from usher.application.runs.models import CourseRun
from usher.engine.models import Reconciled


class Grade(Reconciled):
    """A learner's grade in a run. ``percent`` is from 0 to 1; null until the grade has been read
    from the LMS."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="lms_grades"
    )
    run = models.ForeignKey(CourseRun, on_delete=models.CASCADE, related_name="grades")
    percent = models.FloatField(null=True, blank=True)
    passed = models.BooleanField(null=True)
    letter = models.CharField(max_length=32, blank=True, default="")

    class Meta(Reconciled.Meta):
        constraints = [models.UniqueConstraint(fields=["user", "run"], name="graded_once")]

    def __str__(self) -> str:
        return f"grade of {self.user} in {self.run}"


class Certificate(Reconciled):
    """A learner's certificate for a run. ``status`` is the LMS's, such as ``downloadable``; '' when
    there is no certificate."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="lms_certificates"
    )
    run = models.ForeignKey(CourseRun, on_delete=models.CASCADE, related_name="certificates")
    status = models.CharField(max_length=32, blank=True, default="")
    certificate_type = models.CharField(max_length=64, blank=True, default="")
    is_passing = models.BooleanField(null=True)
    grade = models.CharField(max_length=16, blank=True, default="")
    download_url = models.CharField(max_length=1000, blank=True, default="")
    issued_at = models.DateTimeField(null=True, blank=True)

    class Meta(Reconciled.Meta):
        constraints = [models.UniqueConstraint(fields=["user", "run"], name="certified_once")]

    def __str__(self) -> str:
        return f"certificate of {self.user} in {self.run}"
