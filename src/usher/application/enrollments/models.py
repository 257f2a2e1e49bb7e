"""Enrollments of learners in course runs."""

from django.conf import settings
from django.db import models

from usher.application.runs.models import CourseRun
from usher.engine.models import Reconciled

DEFAULT_MODE = "audit"


class Enrollment(Reconciled):
    """``mode`` and ``is_active`` are desired; ``observed_…`` were last seen in the LMS.

    ``force`` enrolls even when enrollment is closed in the LMS. In a row that ``adoption`` created,
    ``mode`` is '' until the enrollment has been read from the LMS.
    """

    #: Says what happens next with a refused enrollment.
    SENT_AGAIN = (
        "Sent again by itself when the course run changes in the LMS; otherwise when somebody "
        "removes the cause and retries it."
    )

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="lms_enrollments"
    )
    run = models.ForeignKey(CourseRun, on_delete=models.CASCADE, related_name="enrollments")
    mode = models.CharField(max_length=100, default=DEFAULT_MODE)
    is_active = models.BooleanField("wanted active", default=True)
    force = models.BooleanField(default=False)
    observed_mode = models.CharField(max_length=100, blank=True, default="", editable=False)
    observed_is_active = models.BooleanField("seen active", null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(Reconciled.Meta):
        constraints = [models.UniqueConstraint(fields=["user", "run"], name="enrolled_once")]

    def __str__(self) -> str:
        return f"{self.user} in {self.run}"
