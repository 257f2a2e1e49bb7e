"""Query parameters of the course list."""

from typing import Any

from django.core.exceptions import ValidationError
from django.forms import CharField, Field, Form, MultipleHiddenInput
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey

_TRUE, _FALSE = {"True", "true", "1"}, {"False", "false", "0"}


def course_key(text: str) -> CourseKey:
    """The parsed key. Raises ValidationError with the platform's message."""
    try:
        return CourseKey.from_string(text)
    except InvalidKeyError as error:
        raise ValidationError(f"'{text}' is not a valid course key.") from error


class NullBooleanField(CharField):
    """A parameter that is true, false or missing (None)."""

    def to_python(self, value: Any) -> bool | None:  # type: ignore[override]
        text = super().to_python(value)
        if not text:
            return None
        if text not in _TRUE | _FALSE:
            raise ValidationError("Invalid Boolean Value.")
        return text in _TRUE


class CommaSeparatedField(Field):
    """A parameter with several values: repeated, joined by commas, or both."""

    widget = MultipleHiddenInput

    def to_python(self, value: Any) -> list[str]:
        return ",".join(value).split(",") if value else []

    def validate(self, value: list[str]) -> None:
        if "" in value:
            raise ValidationError("This field cannot be empty.")


class CourseListForm(Form):
    username = CharField(required=False)
    org = CharField(required=False)
    search_term = CharField(required=False)  # accepted without effect, like ``permissions``
    mobile = NullBooleanField(required=False)
    active_only = NullBooleanField(required=False)
    permissions = CommaSeparatedField(required=False)
    course_keys = CommaSeparatedField(required=False)

    def clean_course_keys(self) -> list[str]:
        return [str(course_key(key)) for key in self.cleaned_data["course_keys"]]
