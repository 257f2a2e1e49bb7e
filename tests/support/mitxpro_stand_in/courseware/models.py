from django.conf import settings
from django.db import models
from mitxpro.models import TimestampedModel


class CoursewareUser(TimestampedModel):
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="courseware_users"
    )
    platform = models.CharField(max_length=20, choices=[("edx", "edx")], default="edx")
    has_been_synced = models.BooleanField(default=True)

    class Meta:
        unique_together = ("user", "platform")


class OpenEdxApiAuth(TimestampedModel):
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="openedx_api_auth"
    )
    refresh_token = models.CharField(max_length=128)
    access_token = models.CharField(null=True, max_length=128)
    access_token_expires_on = models.DateTimeField(null=True)
