"""Preferences, and the tables of account retirement."""

from typing import Any

from django.contrib.auth.models import User
from django.core.validators import RegexValidator
from django.db import models

from usher.embedded.core.models import TimeStampedModel

LANGUAGE_KEY = "pref-lang"
ACCOUNT_VISIBILITY_KEY = "account_privacy"


class UserPreference(models.Model):
    """One setting of a user, such as the language."""

    user = models.ForeignKey(User, related_name="preferences", on_delete=models.CASCADE)
    key = models.CharField(
        max_length=255, db_index=True, validators=[RegexValidator(r"[-_a-zA-Z0-9]+")]
    )
    value = models.TextField()

    class Meta:
        unique_together = ("user", "key")

    def __str__(self) -> str:
        return f"{self.user_id} {self.key}: {self.value}"

    @classmethod
    def get_value(cls, user: User, key: str, default: Any = None) -> Any:
        value = cls.objects.filter(user=user, key=key).values_list("value", flat=True).first()
        return default if value is None else value

    @classmethod
    def set_value(cls, user: User, key: str, value: str) -> None:
        cls.objects.update_or_create(user=user, key=key, defaults={"value": value})


class RetirementState(models.Model):
    """A step of a retirement. The steps follow one another in the order of their numbers."""

    state_name = models.CharField(max_length=30, unique=True)
    state_execution_order = models.SmallIntegerField(unique=True)
    is_dead_end_state = models.BooleanField(default=False, db_index=True)
    required = models.BooleanField(default=False)

    class Meta:
        ordering = ("state_execution_order",)

    def __str__(self) -> str:
        return f"{self.state_name} (step {self.state_execution_order})"


class UserRetirementRequest(TimeStampedModel):
    user = models.OneToOneField(User, on_delete=models.CASCADE)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.created}"


class UserRetirementStatus(TimeStampedModel):
    """How far the retirement of a user is, and the user's former data."""

    user = models.OneToOneField(User, on_delete=models.CASCADE)
    original_username = models.CharField(max_length=150, db_index=True)
    original_email = models.EmailField(db_index=True)
    original_name = models.CharField(max_length=255, blank=True, db_index=True)
    retired_username = models.CharField(max_length=150, db_index=True)
    retired_email = models.EmailField(db_index=True)
    current_state = models.ForeignKey(
        RetirementState, related_name="current_state", on_delete=models.CASCADE
    )
    last_state = models.ForeignKey(
        RetirementState, blank=True, related_name="last_state", on_delete=models.CASCADE
    )
    responses = models.TextField()

    def __str__(self) -> str:
        return f"{self.user_id}: {self.current_state_id}"
