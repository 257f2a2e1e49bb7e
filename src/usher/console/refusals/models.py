"""Refusals that staff ignore."""

from django.conf import settings
from django.db import models


class Ignored(models.Model):
    """Hides records that were refused at ``up_to`` or before, with a note. row_id: one record;
    None for all of this kind and code.

    A record that is refused after ``up_to`` is shown again, for example a new record with the same
    code, or a record that somebody has retried.
    """

    kind = models.CharField(max_length=16)
    code = models.CharField(max_length=64, blank=True)
    row_id = models.BigIntegerField(null=True, blank=True)
    up_to = models.DateTimeField()
    note = models.CharField(max_length=500)
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()
        #: Permissions of all actions of the console. Retry and repair use the permissions of the
        #: admin: ``usher.retry_records`` and ``usher.repair_records``.
        permissions = [
            ("view_console", "Can see the console"),
            ("ignore_refusals", "Can ignore refused records"),
            ("export_refusals", "Can export refused records"),
            ("compare_with_lms", "Can compare a learner or a course run with the LMS"),
            ("link_accounts", "Can link a learner to an existing LMS account"),
            ("run_doctor", "Can run doctor's checks"),
        ]
        indexes = [models.Index(fields=["kind", "row_id"], name="usher_ignored_row")]

    def __str__(self) -> str:
        return f"{self.kind} {self.code} {self.row_id or ''}".strip()
