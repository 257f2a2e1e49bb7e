"""Base class of models with times of creation and change."""

from django.db import models
from django.utils import timezone


class TimeStampedModel(models.Model):
    """``created`` and ``modified``, as in the platform's tables."""

    created = models.DateTimeField(default=timezone.now, editable=False)
    modified = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: object, **kwargs: object) -> None:
        self.modified = timezone.now()
        super().save(*args, **kwargs)  # type: ignore[arg-type]
