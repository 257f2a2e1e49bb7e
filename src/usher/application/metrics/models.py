"""The sums of what all processes have counted."""

from django.db import models
from django.db.models.functions import Now


class MetricValue(models.Model):
    """One number. labels: a JSON list of the label values, in the order of the metric's labels.
    part: for a histogram, ``sum`` or the upper bound of a bucket (buckets are not cumulative); ''
    for other metrics."""

    name = models.CharField(max_length=64)
    labels = models.CharField(max_length=200)
    part = models.CharField(max_length=16)
    value = models.FloatField()
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "labels", "part"], name="usher_metric_value"),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.labels} {self.part}".rstrip()
