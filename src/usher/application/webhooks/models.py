"""Messages of the LMS that were taken."""

from django.db import models
from django.utils import timezone


class ReceivedEvent(models.Model):
    """The id of a message: one that comes again within the tolerated age is dropped."""

    event_id = models.CharField(max_length=100, unique=True)
    received_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.event_id
