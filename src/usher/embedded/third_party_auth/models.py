"""Provider records: how learners sign in with a provider; versioned by site and backend."""

import json
from functools import cache
from typing import Any

from config_models.models import ConfigurationModel
from crum import get_current_request
from django.conf import settings
from django.contrib.sites.models import Site
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.module_loading import import_string
from social_core.backends.base import BaseAuth
from social_core.backends.oauth import OAuthAuth


@cache
def _backends() -> dict[str, type[BaseAuth]]:
    classes = [import_string(path) for path in settings.AUTHENTICATION_BACKENDS]
    return {backend.name: backend for backend in classes if issubclass(backend, BaseAuth)}


def oauth_backend_names() -> list[str]:
    """Backend names that a record may have: the names of the OAuth backends in
    AUTHENTICATION_BACKENDS."""
    return [name for name, backend in _backends().items() if issubclass(backend, OAuthAuth)]


def default_site_id() -> int:
    return settings.SITE_ID


def clean_json(text: str) -> str:
    """``text`` as tidy JSON of an object; ``{}`` for an empty text. Raises ValidationError for
    anything else."""
    if not text.strip():
        return "{}"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValidationError(f"Invalid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValidationError("Expected a JSON object")
    return json.dumps(value, indent=4)


class ProviderConfig(ConfigurationModel):
    """Base class of provider records. The newest row of a key is the current one."""

    icon_class = models.CharField(max_length=50, blank=True, default="fa-sign-in")
    icon_image = models.FileField(blank=True)
    name = models.CharField(
        max_length=50, blank=True, help_text="Name of this provider (shown to users)"
    )
    slug = models.SlugField(
        max_length=30,
        db_index=True,
        default="default",
        help_text="A short string uniquely identifying this provider.",
    )
    secondary = models.BooleanField(default=False)
    site = models.ForeignKey(
        Site,
        default=default_site_id,
        related_name="%(class)ss",
        on_delete=models.CASCADE,
        help_text="The Site that this provider configuration belongs to.",
    )
    skip_hinted_login_dialog = models.BooleanField(default=False)
    skip_registration_form = models.BooleanField(default=False)
    skip_email_verification = models.BooleanField(default=False)
    send_welcome_email = models.BooleanField(default=False)
    visible = models.BooleanField(default=False)
    max_session_length = models.PositiveIntegerField(
        null=True, blank=True, default=None, verbose_name="Max session length (seconds)"
    )
    send_to_registration_first = models.BooleanField(default=False)
    sync_learner_profile_data = models.BooleanField(default=False)
    enable_sso_id_verification = models.BooleanField(default=False)
    disable_for_enterprise_sso = models.BooleanField(
        default=False, verbose_name="Disabled for Enterprise TPA"
    )
    was_valid_at = models.DateTimeField(blank=True, null=True)

    #: Begins ``provider_id``.
    prefix = ""
    accepts_logins = True

    class Meta:
        app_label = "third_party_auth"
        abstract = True

    @property
    def enabled_for_current_site(self) -> bool:
        return bool(
            self.enabled and self.site_id == Site.objects.get_current(get_current_request()).id
        )

    @property
    def full_class_name(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"

    @property
    def display_for_login(self) -> bool:
        return self.enabled_for_current_site and self.accepts_logins and self.visible


class OAuth2ProviderConfig(ProviderConfig):
    """A provider reached by an OAuth backend of python-social-auth."""

    KEY_FIELDS = ("site_id", "backend_name")
    prefix = "oa2"
    # Not cached in memory: management commands in other processes write records too.
    cache_timeout = 0

    backend_name = models.CharField(
        max_length=50,
        db_index=True,
        help_text="Which python-social-auth OAuth2 provider backend to use.",
    )
    key = models.TextField(blank=True, verbose_name="Client ID")
    secret = models.TextField(
        blank=True,
        verbose_name="Client Secret",
        help_text="Blank: taken from the setting SOCIAL_AUTH_OAUTH_SECRETS.",
    )
    other_settings = models.TextField(
        blank=True, help_text="Optional JSON object with advanced settings, if any."
    )

    class Meta:
        app_label = "third_party_auth"
        verbose_name = "Provider Configuration (OAuth)"
        verbose_name_plural = verbose_name

    @classmethod
    def current(cls, *args: Any) -> "OAuth2ProviderConfig":
        """The newest record of a backend on the site of the request being answered."""
        site = Site.objects.get_current(get_current_request())
        return super().current(site.id, *args)

    @property
    def provider_id(self) -> str:
        """The provider's id in URLs, e.g. ``oa2-mitxpro-oauth2``."""
        return f"{self.prefix}-{self.backend_name}"

    def clean(self) -> None:
        super().clean()
        self.other_settings = clean_json(self.other_settings)

    def get_setting(self, name: str) -> Any:
        """The client id (``KEY``), the secret (``SECRET``), or a value of ``other_settings``.
        Raises KeyError if the record has no such value."""
        if name == "KEY":
            return self.key
        if name == "SECRET":
            return self.secret or settings.SOCIAL_AUTH_OAUTH_SECRETS.get(self.backend_name, "")
        if not self.other_settings:
            raise KeyError(name)
        return json.loads(self.other_settings)[name]
