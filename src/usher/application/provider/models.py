from django.conf import settings
from django.db import models
from django.utils import timezone
from oauth2_provider.settings import oauth2_settings


class ClientPolicy(models.Model):
    """The provider's rules for one client that the OAuth toolkit's record has no fields for.

    A client without a policy must use PKCE. ``social-auth-mitxpro`` and ``ol-social-auth`` don't
    send a code challenge, so only the LMS's client has a policy that does not require PKCE.
    """

    application = models.OneToOneField(
        oauth2_settings.APPLICATION_MODEL,
        on_delete=models.CASCADE,
        related_name="usher_policy",
    )
    pkce_required = models.BooleanField("PKCE required", default=True)
    backchannel_logout_url = models.CharField(
        "sign-out address",
        max_length=500,
        blank=True,
        help_text="Where the LMS takes signed sign-out messages, by its address for servers.",
    )

    class Meta:
        verbose_name = "client policy"
        verbose_name_plural = "client policies"
        permissions = [("revoke_tokens", "Can revoke access and refresh tokens")]

    def __str__(self) -> str:
        return str(self.application)


class SignedInSession(models.Model):
    """A session of a signed-in user. A sign-out in the LMS ends it."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="usher_sessions"
    )
    session_key = models.CharField(max_length=40, unique=True)
    started_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"session of {self.user}"


class SignOutMessage(models.Model):
    """A sign-out message that was not delivered to an LMS yet. It is deleted after delivery.
    application: the LMS's OAuth client. subject: the learner's LMS username."""

    application = models.ForeignKey(
        oauth2_settings.APPLICATION_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    subject = models.CharField(max_length=255)
    created_at = models.DateTimeField(default=timezone.now)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now, db_index=True)
    last_error = models.CharField(max_length=255, blank=True)

    class Meta:
        verbose_name = "sign-out message"

    def __str__(self) -> str:
        return f"sign-out of {self.subject}"


class SeenSignOut(models.Model):
    """The id of a sign-out message that was received. A second message with this id is a replay."""

    event_id = models.CharField(max_length=100, unique=True)
    received_at = models.DateTimeField(default=timezone.now, db_index=True)

    def __str__(self) -> str:
        return self.event_id
