"""Results of doctor's checks, kept to show what changed between two runs."""

from django.conf import settings
from django.db import models
from django.utils import timezone


class DoctorRun(models.Model):
    """One run of doctor's checks from the console; report: the result of
    ``usher.doctor.staff.run_checks``."""

    at = models.DateTimeField(default=timezone.now, db_index=True)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    report = models.JSONField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"checks at {self.at:%Y-%m-%d %H:%M}"
