"""Serializers of requests. A malformed request answers 400 with the field and the error; a failure
of a well-formed item is reported in that item's outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from usher.contract.failures import storable
from usher.contract.limits import BATCH_ITEMS_A_REQUEST, FULL_NAME_MAX_LENGTH

#: The length of the platform's columns for full names and course keys.
TEXT_MAX_LENGTH = FULL_NAME_MAX_LENGTH
#: The longest e-mail address (RFC 5321), and the length of the platform's column.
LONGEST_EMAIL = 254


class IdField(serializers.Field):
    """The caller's id of an item, returned with its outcome: a string or an integer."""

    def to_internal_value(self, data: Any) -> str | int:
        is_integer = isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**63
        if not is_integer and not (isinstance(data, str) and len(data) <= TEXT_MAX_LENGTH):
            raise serializers.ValidationError(
                f"Not an integer, and not a text of at most {TEXT_MAX_LENGTH} characters."
            )
        if isinstance(data, str) and storable(data) != data.replace("\0", "?"):
            # The answer repeats the id, and has to be encoded.
            raise serializers.ValidationError("Not a text: it has half of a surrogate pair.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


def text_field(
    *, required: bool = True, max_length: int = TEXT_MAX_LENGTH
) -> serializers.CharField:
    """A field for text. required: the field must be present and not blank."""
    return serializers.CharField(max_length=max_length, required=required, allow_blank=not required)


def username_field(*, required: bool = True) -> serializers.CharField:
    """A field for a learner's username, which is not trimmed: ``ada`` and ``ada `` may be two
    learners of the application."""
    return serializers.CharField(
        max_length=TEXT_MAX_LENGTH,
        required=required,
        allow_blank=not required,
        trim_whitespace=False,
    )


class AccountItem(serializers.Serializer):
    id = IdField()
    username = username_field()
    email = text_field(max_length=LONGEST_EMAIL)
    name = text_field(required=False)
    country = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=2)
    is_active = serializers.BooleanField(required=False, default=True)
    reactivate = serializers.BooleanField(required=False, default=False)
    tokens = serializers.BooleanField(required=False, default=False)


class EnrollmentItem(serializers.Serializer):
    id = IdField()
    username = username_field()
    uid = username_field(required=False)
    course_id = text_field()
    mode = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, default=None, max_length=100
    )
    is_active = serializers.BooleanField(required=False, default=True)
    force = serializers.BooleanField(required=False, default=False)


def items_field(kind: type[serializers.Serializer]) -> serializers.ListField:
    return serializers.ListField(child=kind(), max_length=BATCH_ITEMS_A_REQUEST)


def request_id_field() -> serializers.CharField:
    """The caller's id of a request. A repetition of the request has the same id."""
    return serializers.CharField(max_length=60, required=False, allow_blank=True, default="")


class AccountBatch(serializers.Serializer):
    items = items_field(AccountItem)
    client_id = text_field(required=False)
    request_id = request_id_field()


class EnrollmentBatch(serializers.Serializer):
    items = items_field(EnrollmentItem)
    client_id = text_field(required=False)
    request_id = request_id_field()


class MomentField(serializers.Field):
    """An ISO 8601 date and time; UTC without an offset."""

    def to_internal_value(self, data: Any) -> datetime:
        try:
            # An unquoted + arrives as a space in a query string.
            moment = datetime.fromisoformat(str(data).replace(" ", "+"))
        except ValueError as error:
            raise serializers.ValidationError("Not an ISO 8601 date and time.") from error
        # Outside of the years 1 to 9999 the conversion to UTC would overflow.
        if not 1970 <= moment.year <= 9000:
            raise serializers.ValidationError("Not between the years 1970 and 9000.")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def to_representation(self, value: datetime) -> str:
        return value.isoformat()


class ChangesQuery(serializers.Serializer):
    changed_since = MomentField(required=False, default=None)
    cursor = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=TEXT_MAX_LENGTH
    )
    limit = serializers.IntegerField(
        required=False, min_value=1, max_value=BATCH_ITEMS_A_REQUEST, default=BATCH_ITEMS_A_REQUEST
    )
    client_id = text_field(required=False)


class LinksQuery(serializers.Serializer):
    username = username_field()
    client_id = text_field(required=False)
