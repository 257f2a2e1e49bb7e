"""The outbox, which is also the log of changes."""

from __future__ import annotations

import uuid

from django.db import models

from usher.lms.connections.models import ConnectedApplication


def new_event_id() -> str:
    return str(uuid.uuid4())


class Message(models.Model):
    """A change of which one application is notified. ``next_attempt_at`` is null when nothing is
    left to send: the message was delivered or given up, the application has no webhook URL, or it
    requested the change itself."""

    application_id: int
    application = models.ForeignKey(
        ConnectedApplication, on_delete=models.CASCADE, related_name="messages"
    )
    #: A string, because MariaDB's column type for a UUIDField differs between Django 4.2 and 5.2,
    #: and neither can write to the column of the other.
    event_id = models.CharField(max_length=36, default=new_event_id, unique=True, editable=False)
    #: A value of ``contract.events.EventType``.
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
            # For the log: what changed for an application since a given time.
            models.Index(fields=["application", "type", "id"], name="usher_lms_message_log"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.username} {self.course_id}".rstrip()
