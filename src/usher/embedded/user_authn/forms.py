"""Validation of a new account's fields."""

import re
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator

from usher.contract.limits import (
    FULL_NAME_MAX_LENGTH,
    USERNAME_MAX_LENGTH,
    USERNAME_MIN_LENGTH,
)
from usher.embedded.student.models import CourseEnrollmentAllowed, email_exists_or_retired
from usher.embedded.user_authn import messages

EMAIL_MIN_LENGTH, EMAIL_MAX_LENGTH = 3, 254


def validate_username(username: str) -> None:
    """Raises ValidationError for characters that the platform does not allow in usernames."""
    if settings.FEATURES.get("ENABLE_UNICODE_USERNAME"):
        RegexValidator(rf"^{settings.USERNAME_REGEX_PARTIAL}$")(username)
    else:
        RegexValidator(r"^[-a-zA-Z0-9_]+\Z", message=messages.USERNAME_CHARACTERS)(username)


def validate_name(name: str) -> None:
    if "<" in name or ">" in name:
        raise ValidationError(messages.NAME_HTML)
    if "://" in name:
        raise ValidationError(messages.NAME_INVALID)


class TrueField(forms.BooleanField):
    """A checkbox that must be checked. ``true``, in upper or lower case, means checked; a missing
    value means unchecked."""

    widget = forms.CheckboxInput

    def to_python(self, value: Any) -> bool:
        return value is True or str(value).lower() == "true"


class UsernameField(forms.CharField):
    default_validators = [validate_username]

    def __init__(self) -> None:
        length = messages.USERNAME_LENGTH
        super().__init__(
            min_length=USERNAME_MIN_LENGTH,
            max_length=USERNAME_MAX_LENGTH,
            error_messages={"required": length, "min_length": length, "max_length": length},
        )


class AccountCreationForm(forms.Form):
    """Validates a new account without saving it. extra_fields: REGISTRATION_EXTRA_FIELDS."""

    username = UsernameField()
    email = forms.EmailField(
        min_length=EMAIL_MIN_LENGTH,
        max_length=EMAIL_MAX_LENGTH,
        error_messages={
            "required": messages.EMAIL_FORMAT,
            "invalid": messages.EMAIL_FORMAT,
            "max_length": "Email cannot be more than %(limit_value)s characters long",
        },
    )
    password = forms.CharField()
    name = forms.CharField(
        min_length=1,
        max_length=FULL_NAME_MAX_LENGTH,
        error_messages={
            "required": messages.NAME_SHORT,
            "min_length": messages.NAME_SHORT,
            "max_length": messages.NAME_LONG,
        },
        validators=[validate_name],
    )

    def __init__(self, data: dict[str, Any], extra_fields: dict[str, str]) -> None:
        super().__init__(data)
        rules = {extra_fields.get(name) for name in ("terms_of_service", "honor_code")}
        # One checkbox accepts both, so it is missing only if both are hidden.
        if rules != {"hidden"}:
            self.fields["terms_of_service"] = TrueField(
                error_messages={"required": messages.TERMS_REQUIRED}
            )
        for name, rule in extra_fields.items():
            if name not in self.fields:
                self._add_field(name, rule)

    def _add_field(self, name: str, rule: str) -> None:
        """rule: ``required``, ``optional`` or ``hidden``. A hidden field is validated like an
        optional one."""
        if name == "honor_code":
            if rule == "required":
                self.fields[name] = TrueField(
                    error_messages={"required": messages.HONOR_CODE_REQUIRED}
                )
            return
        message = messages.FIELD_REQUIRED.get(name, messages.FIELD_MISSING)
        self.fields[name] = forms.CharField(
            required=rule == "required",
            min_length=1,
            error_messages={"required": message, "min_length": message},
        )

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        username = self.cleaned_data.get("username")
        owner = User(username=username or "", email=self.cleaned_data.get("email", ""))
        validate_password(password, owner if username else None)
        return password

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        patterns = settings.REGISTRATION_EMAIL_PATTERNS_ALLOWED
        # An address that no pattern allows may register after an invitation to a run.
        is_allowed = patterns is None or any(re.match(f"{pattern}$", email) for pattern in patterns)
        if not is_allowed and not CourseEnrollmentAllowed.objects.filter(email=email).exists():
            raise ValidationError("Unauthorized email address.")
        if email_exists_or_retired(email):
            raise ValidationError(
                f"It looks like {email} belongs to an existing account. "
                "Try again with a different email address."
            )
        return email

    def clean_year_of_birth(self) -> int | None:
        try:
            return int(self.cleaned_data["year_of_birth"])
        except (TypeError, ValueError):
            return None
