from django.db import models
from oauth2_provider.settings import oauth2_settings


class ClientPolicy(models.Model):
    """What this provider asks of one client, beyond what the OAuth toolkit's record can say.

    A client without a policy must use PKCE. ``social-auth-mitxpro`` and ``ol-social-auth`` don't
    send a code challenge, so the LMS's record is marked otherwise: it alone.
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
        help_text="Where the LMS takes signed sign-out messages; '' leaves it out.",
    )

    class Meta:
        verbose_name = "client policy"
        verbose_name_plural = "client policies"

    def __str__(self) -> str:
        return str(self.application)
