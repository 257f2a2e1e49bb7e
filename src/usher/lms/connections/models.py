"""Records of the applications connected to this LMS."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class ConnectedApplication(models.Model):
    """One connected application: its URLs, and what provisioning created for it in this LMS."""

    name = models.CharField(max_length=50, unique=True)
    backend = models.CharField(max_length=32, unique=True)
    #: The LMS's client id in the application: the audience of the application's logout tokens.
    client_id = models.CharField(max_length=255)
    #: The application's client id in the LMS. The batch API mints tokens for this client only.
    oauth_client_id = models.CharField(max_length=100, unique=True)
    #: These two verify the application's logout tokens; '' if it sends none.
    issuer = models.CharField(max_length=255, blank=True)
    jwks_url = models.CharField(max_length=500, blank=True)
    webhook_url = models.CharField(max_length=500, blank=True)
    webhook_secret = models.CharField(max_length=255, blank=True)
    backchannel_logout_url = models.CharField(max_length=500, blank=True)
    logout_url = models.CharField(max_length=500, blank=True)
    access_token_url = models.CharField(max_length=500, blank=True)
    #: Newer releases of the OAuth toolkit store only a hash of the client's secret. These are
    #: fingerprints of the secret and of that hash. While the fingerprint of the hash matches, the
    #: secret is the one that was provisioned.
    oauth_client_secret_fingerprint = models.CharField(max_length=12, blank=True)
    oauth_client_hash_fingerprint = models.CharField(max_length=12, blank=True)
    #: Whether the OAuth client existed before provisioning; if so, removal keeps it.
    oauth_client_adopted = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True)
    modified = models.DateTimeField(auto_now=True)

    class Meta:
        app_label = "usher_lms"

    def __str__(self) -> str:
        return self.name


class ServiceWorker(models.Model):
    """The LMS account that one application acts as."""

    user_id: int
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="usher_service_worker"
    )
    application_id: int | None
    #: The only application for which the account may act. Null after that application was removed.
    application = models.OneToOneField(
        ConnectedApplication,
        null=True,
        on_delete=models.SET_NULL,
        related_name="service_worker",
    )
    #: Of the current token, so that provisioning finds and deletes it when another replaces it.
    token_fingerprint = models.CharField(max_length=12, blank=True)
    #: Whether provisioning created the user; if so, removal with purge deletes the user.
    made = models.BooleanField(default=False)

    class Meta:
        app_label = "usher_lms"

    def __str__(self) -> str:
        return str(self.user)


class ServiceClient(models.Model):
    """An OAuth client with the grant *client credentials*, and the account that it acts as."""

    application_id: int | None
    #: Null after that application was removed; the row then records that the account was created
    #: by provisioning.
    application = models.ForeignKey(
        ConnectedApplication,
        null=True,
        on_delete=models.SET_NULL,
        related_name="service_clients",
    )
    #: One of ``usher.contract.provisioning.PURPOSES``.
    purpose = models.CharField(max_length=20)
    client_id = models.CharField(max_length=255)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+"
    )
    #: Whether provisioning created the account for this client alone.
    user_made = models.BooleanField(default=False)

    class Meta:
        app_label = "usher_lms"
        constraints = (
            models.UniqueConstraint(
                fields=["application", "purpose"], name="usher_lms_service_client"
            ),
        )

    def __str__(self) -> str:
        return f"{self.purpose} of {self.application}"


class ProviderVersion(models.Model):
    """A version of a provider record that provisioning created; removal with purge deletes it."""

    record_id = models.BigIntegerField(unique=True)

    class Meta:
        app_label = "usher_lms"

    def __str__(self) -> str:
        return f"provider record {self.record_id}"
