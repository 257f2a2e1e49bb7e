"""Outcomes of batches, kept for a day for callers that got no answer and repeat the request."""

from __future__ import annotations

from django.db import models

from usher.lms.connections.models import ConnectedApplication


class BatchOutcome(models.Model):
    """The outcomes of one transaction of a batch request, committed in that transaction."""

    application = models.ForeignKey(
        ConnectedApplication, on_delete=models.CASCADE, related_name="+"
    )
    #: SHA-256 of the kind of request and of the id that the caller chose. The caller chooses a new
    #: id for each request that is not a repetition.
    request_id = models.CharField(max_length=64)
    #: Number of the first item, in processing order.
    start = models.PositiveIntegerField()
    #: SHA-256 of the items.
    digest = models.CharField(max_length=64)
    #: JSON. In place of learners' tokens the JSON has the ids of the refresh tokens' rows.
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
