"""Rows that workers write for the console: failed attempts, numbers of outcomes, their own
state."""

from django.db import models
from django.utils import timezone

#: The length of the column ``error_message`` of a record's work.
MESSAGE_MAX_LENGTH = 500


class Attempt(models.Model):
    """A failed attempt to reconcile a record, or the success that followed failures. Kept for 30
    days.

    kind, row_id: the record.
    """

    kind = models.CharField(max_length=16)
    row_id = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now, db_index=True)
    succeeded = models.BooleanField(default=False)
    error_class = models.CharField(max_length=12, blank=True, default="")
    code = models.CharField(max_length=64, blank=True, default="")
    message = models.CharField(max_length=MESSAGE_MAX_LENGTH, blank=True, default="")

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["kind", "row_id", "-id"], name="usher_attempt_of_row")]

    def __str__(self) -> str:
        return f"{self.kind} {self.row_id}"


class WorkDone(models.Model):
    """How many outcomes one process wrote in one minute; a record that is tried twice has two
    outcomes. worker: the process, which may also be a command or a web server. changed: changed in
    the LMS. unchanged: found in sync. failed: will be retried. refused: refused by the LMS."""

    minute = models.DateTimeField()
    worker = models.CharField(max_length=120)
    changed = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["minute", "worker"], name="usher_work_of_minute")
        ]

    def __str__(self) -> str:
        return f"{self.worker} at {self.minute:%H:%M}"


class Worker(models.Model):
    """A worker process. role: the kind of process, such as ``Celery worker``. report: the state of
    the LMS as the process last saw it (``Recorder.report``)."""

    name = models.CharField(max_length=120, unique=True)
    # The column has the field's former name, so that older processes run on during an upgrade.
    role = models.CharField(max_length=40, db_column="what")
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(db_index=True)
    report = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
