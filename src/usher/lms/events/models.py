"""The outbox, which is the log of changes as well."""

from __future__ import annotations

import uuid

from django.db import models

from usher.lms.connections.models import ConnectedApplication


def new_event_id() -> str:
    return str(uuid.uuid4())


class Message(models.Model):
    """One thing that one application should know. ``next_attempt_at`` is null when there is
    nothing left to do: delivered, given up, or nowhere to send it to."""

    application_id: int
    application = models.ForeignKey(
        ConnectedApplication, on_delete=models.CASCADE, related_name="messages"
    )
    #: A text, because MariaDB's column of a UUIDField differs between Django 4.2 and 5.2, which
    #: then can't write to each other's.
    event_id = models.CharField(max_length=36, default=new_event_id, unique=True, editable=False)
    #: As contract.events names them.
    type = models.CharField(max_length=40)
    username = models.CharField(max_length=150)
    course_id = models.CharField(max_length=255, blank=True)
    created = models.DateTimeField(auto_now_add=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True, db_index=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.CharField(max_length=255, blank=True)

    class Meta:
        app_label = "usher_lms"
        indexes = [
            # The log: what changed for this application since a moment.
            models.Index(fields=["application", "type", "id"], name="usher_lms_message_log"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.username} {self.course_id}".rstrip()
