"""Scopes and filters of the LMS's OAuth applications (``oauth_dispatch`` of the platform)."""

from typing import Any

from django.db import models
from oauth2_provider.settings import oauth2_settings


class CommaSeparatedField(models.CharField):
    """A list of words in one column, separated by commas."""

    def from_db_value(
        self, value: str | None, expression: Any, connection: Any
    ) -> list[str] | None:
        return None if value is None else [word for word in value.split(",") if word]

    def to_python(self, value: Any) -> Any:
        if value is None or isinstance(value, list):
            return value
        return [word.strip() for word in str(value).split(",") if word.strip()]

    def get_prep_value(self, value: Any) -> str | None:
        return None if value is None else ",".join(self.to_python(value))

    def value_to_string(self, obj: models.Model) -> str:
        return self.get_prep_value(self.value_from_object(obj)) or ""


class RestrictedApplication(models.Model):
    """An application whose opaque tokens have expired when they are issued, so that it can use only
    JSON Web Tokens."""

    application = models.ForeignKey(oauth2_settings.APPLICATION_MODEL, on_delete=models.CASCADE)

    class Meta:
        app_label = "oauth_dispatch"

    def __str__(self) -> str:
        return f"restricted {self.application_id}"


class ApplicationAccess(models.Model):
    """An application's scopes and filters in addition to the defaults."""

    application = models.OneToOneField(
        oauth2_settings.APPLICATION_MODEL, related_name="access", on_delete=models.CASCADE
    )
    scopes = CommaSeparatedField(max_length=825)
    filters = CommaSeparatedField(max_length=825, null=True, blank=True)

    class Meta:
        app_label = "oauth_dispatch"

    def __str__(self) -> str:
        return f"access of {self.application_id}: {self.scopes}"

    @classmethod
    def scopes_of(cls, application: Any) -> list[str]:
        access = cls.objects.filter(application=application).first()
        return list(access.scopes) if access else []
