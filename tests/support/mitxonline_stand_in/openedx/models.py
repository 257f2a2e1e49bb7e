from django.conf import settings
from django.db import models
from main.models import TimestampedModel


class OpenEdxUser(TimestampedModel):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="openedx_users"
    )
    platform = models.CharField(max_length=20, choices=[("edx", "edx")], default="edx")
    edx_username = models.CharField(null=True, unique=True, max_length=30)
    desired_edx_username = models.CharField(null=True, max_length=30)
    has_been_synced = models.BooleanField(default=False)
    has_sync_error = models.BooleanField(default=False)
    sync_error_data = models.JSONField(null=True, default=None)

    class Meta:
        unique_together = ("user", "platform")


class OpenEdxApiAuth(TimestampedModel):
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="openedx_api_auth"
    )
    refresh_token = models.CharField(max_length=128)
    access_token = models.CharField(null=True, max_length=128)
    access_token_expires_on = models.DateTimeField(null=True)
