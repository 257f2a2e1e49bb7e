from typing import ClassVar

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.db.models.functions import Lower

from usher.contract.limits import FULL_NAME_MAX_LENGTH


class CaseInsensitiveUserManager(UserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        """Find a user ignoring case, for ``manage.py`` and the admin's sign-in."""
        return self.get(username__iexact=username)


class User(AbstractUser):
    """A user. ``name`` is the full name, as printed on certificates."""

    # None removes a field of AbstractUser. ``name`` replaces these two.
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    name = models.CharField("full name", max_length=FULL_NAME_MAX_LENGTH, blank=True)
    email = models.EmailField("e-mail address")
    country = models.CharField(max_length=2, blank=True, help_text="ISO 3166-1 alpha-2 code")

    objects: ClassVar[CaseInsensitiveUserManager] = CaseInsensitiveUserManager()

    class Meta:
        constraints = [
            # The LMS ignores case in usernames and e-mail addresses, so two users must not differ
            # by case alone.
            models.UniqueConstraint(
                Lower("username"),
                name="unique_username_any_case",
                violation_error_message="A user with that username already exists.",
            ),
            models.UniqueConstraint(
                Lower("email"),
                name="unique_email_any_case",
                violation_error_message="A user with that e-mail address already exists.",
            ),
        ]

    def get_full_name(self) -> str:
        return self.name or self.username

    def get_short_name(self) -> str:
        return self.name.split(" ")[0] or self.username


def display_name(user: User) -> str:
    """The name of the user in allauth's messages: ``ACCOUNT_USER_DISPLAY``."""
    return user.get_full_name()
