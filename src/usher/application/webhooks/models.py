"""Webhook messages of the LMS that were processed."""

from django.db import models
from django.utils import timezone


class ReceivedEvent(models.Model):
    """The id of a processed message. A message with the same id is ignored while its signature is
    still accepted."""

    event_id = models.CharField(max_length=100, unique=True)
    received_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.event_id
