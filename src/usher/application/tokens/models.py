"""Learners' tokens, with which the application calls the LMS on their behalf."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone

from usher.engine.models import Reconciled


class LmsToken(Reconciled):
    """A learner's tokens for the application's OAuth client at the LMS, encrypted by
    ``tokens.vault``. Use ``tokens.services.access_token_for`` to read them."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="lms_token"
    )
    access_token = models.TextField(blank=True, default="", editable=False)
    refresh_token = models.TextField(blank=True, default="", editable=False)
    scope = models.CharField(max_length=200, blank=True, default="", editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta(Reconciled.Meta):
        verbose_name = "LMS token"

    def __str__(self) -> str:
        return f"token of {self.user}"

    def is_valid_for(self, seconds: float) -> bool:
        """Whether the access token is valid for at least ``seconds`` from now."""
        return bool(
            self.access_token
            and self.expires_at
            and self.expires_at > timezone.now() + timedelta(seconds=seconds)
        )
