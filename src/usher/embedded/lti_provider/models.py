"""Users who come from another learning platform by LTI (``lti_provider`` of the platform)."""

import secrets

from django.conf import settings
from django.db import models


def short_token() -> str:
    return secrets.token_hex(16)


class LtiConsumer(models.Model):
    """A site that embeds runs of this LMS by LTI."""

    consumer_name = models.CharField(max_length=255, unique=True)
    consumer_key = models.CharField(max_length=32, unique=True, db_index=True, default=short_token)
    consumer_secret = models.CharField(max_length=32, unique=True, default=short_token)
    instance_guid = models.CharField(max_length=255, blank=True, null=True, unique=True)
    require_user_account = models.BooleanField(blank=True, default=False)
    use_lti_pii = models.BooleanField(blank=True, default=False)

    def __str__(self) -> str:
        return self.consumer_name


class LtiUser(models.Model):
    """The LMS account that was created for a user of an LTI consumer."""

    lti_consumer = models.ForeignKey(LtiConsumer, on_delete=models.CASCADE)
    lti_user_id = models.CharField(max_length=255)
    edx_user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)

    class Meta:
        unique_together = ("lti_consumer", "lti_user_id")

    def __str__(self) -> str:
        return f"{self.lti_user_id} of {self.lti_consumer_id}"
