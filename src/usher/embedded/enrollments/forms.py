"""Filters of the list of all enrollments."""

from typing import Any

from django.core.exceptions import ValidationError
from django.forms import CharField, Form
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey

from usher.embedded.user_authn.forms import validate_username

MAX_VALUES = 100


class EnrollmentsForm(Form):
    username = CharField(required=False)
    course_id = CharField(required=False)
    course_ids = CharField(required=False)
    email = CharField(required=False)

    # The values of a field, which commas separate. plural: what the error calls them.
    def _split_values(self, field: str, plural: str) -> list[str]:
        text = self.cleaned_data.get(field)
        values = text.split(",") if text else []
        if len(values) > MAX_VALUES:
            raise ValidationError(
                f"Too many {plural} in a single request - {len(values)}. "
                f"A maximum of {MAX_VALUES} is allowed"
            )
        return values

    def clean_course_id(self) -> Any:
        text = self.cleaned_data.get("course_id")
        try:
            return CourseKey.from_string(text) if text else None
        except InvalidKeyError as error:
            raise ValidationError(f"'{text}' is not a valid course id.") from error

    def clean_username(self) -> list[str]:
        names = self._split_values("username", "usernames")
        for name in names:
            validate_username(name)
        return names

    def clean_course_ids(self) -> list[str]:
        return self._split_values("course_ids", "course_ids")

    def clean_email(self) -> list[str]:
        return self._split_values("email", "emails")
