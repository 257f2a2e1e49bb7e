"""Outcomes of batches, kept for a day: for a caller who asks again because no answer came."""

from __future__ import annotations

from django.db import models

from usher.lms.connections.models import ConnectedApplication


class BatchOutcome(models.Model):
    """What came of the items of one transaction of a request. It is committed with them."""

    application = models.ForeignKey(
        ConnectedApplication, on_delete=models.CASCADE, related_name="+"
    )
    #: The caller's own, new for each request that is not a repetition.
    request_id = models.CharField(max_length=64)
    #: Number of the first item, in the order in which they were worked on.
    start = models.PositiveIntegerField()
    #: SHA-256 of the items.
    digest = models.CharField(max_length=64)
    #: JSON. Learners' tokens are not here, but the ids of their rows.
    outcomes = models.TextField(blank=True)
    created = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        app_label = "usher_lms"
        constraints = [
            models.UniqueConstraint(
                fields=["application", "request_id", "start"], name="usher_lms_batch_outcome"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} from item {self.start}"
