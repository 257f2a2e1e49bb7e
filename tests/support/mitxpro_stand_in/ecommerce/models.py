from django.conf import settings
from django.db import models
from mitxpro.models import TimestampedModel


class Order(TimestampedModel):
    purchaser = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    status = models.CharField(default="created", max_length=30)
