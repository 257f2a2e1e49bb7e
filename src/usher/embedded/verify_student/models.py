"""Identity verification by sign-in with a trusted provider."""

from django.contrib.auth.models import User
from django.db import models

from usher.embedded.core.models import TimeStampedModel


class SSOVerification(TimeStampedModel):
    """Created at sign-in if the provider record says so (``enable_sso_id_verification``)."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    status = models.CharField(max_length=100, default="created")
    status_changed = models.DateTimeField(auto_now=True)
    name = models.CharField(blank=True, max_length=255)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True, db_index=True)
    identity_provider_type = models.CharField(max_length=100, blank=True)
    identity_provider_slug = models.SlugField(max_length=30, db_index=True, default="default")

    class Meta:
        app_label = "verify_student"

    def __str__(self) -> str:
        return f"{self.user_id}: {self.status}"
