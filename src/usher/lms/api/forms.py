"""Serializers of requests. A malformed request answers 400 with the field and the error; a failure
of a well-formed item is reported in that item's outcome."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rest_framework import serializers

from usher.contract.limits import BATCH_ITEMS_A_REQUEST, FULL_NAME_MAX_LENGTH

#: The length of the platform's columns for full names and course keys.
TEXT_MAX_LENGTH = FULL_NAME_MAX_LENGTH
#: The longest e-mail address (RFC 5321), and the length of the platform's column.
LONGEST_EMAIL = 254


class IdField(serializers.Field):
    """The caller's id of an item, returned with its outcome: a string or an integer."""

    def to_internal_value(self, data: Any) -> str | int:
        number = isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**63
        if not number and not (isinstance(data, str) and len(data) <= TEXT_MAX_LENGTH):
            raise serializers.ValidationError("Not an integer or a short text.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


def text(*, required: bool = True, longest: int = TEXT_MAX_LENGTH) -> serializers.CharField:
    return serializers.CharField(max_length=longest, required=required, allow_blank=not required)


class AccountItem(serializers.Serializer):
    id = IdField()
    username = text()
    email = text(longest=LONGEST_EMAIL)
    name = text(required=False)
    country = serializers.CharField(required=False, allow_blank=True, allow_null=True, max_length=2)
    is_active = serializers.BooleanField(required=False, default=True)
    reactivate = serializers.BooleanField(required=False, default=False)
    tokens = serializers.BooleanField(required=False, default=False)


class EnrollmentItem(serializers.Serializer):
    id = IdField()
    username = text()
    course_id = text()
    mode = serializers.CharField(
        required=False, allow_null=True, allow_blank=True, default=None, max_length=100
    )
    is_active = serializers.BooleanField(required=False, default=True)
    force = serializers.BooleanField(required=False, default=False)


def items_of(kind: type[serializers.Serializer]) -> serializers.ListField:
    return serializers.ListField(child=kind(), max_length=BATCH_ITEMS_A_REQUEST)


def request_id() -> serializers.CharField:
    """The caller's id of a request. A repetition of the request has the same id."""
    return serializers.CharField(max_length=60, required=False, allow_blank=True, default="")


class AccountBatch(serializers.Serializer):
    items = items_of(AccountItem)
    client_id = text(required=False)
    request_id = request_id()


class EnrollmentBatch(serializers.Serializer):
    items = items_of(EnrollmentItem)
    client_id = text(required=False)
    request_id = request_id()


class Moment(serializers.Field):
    """An ISO 8601 date and time; UTC without an offset."""

    def to_internal_value(self, data: Any) -> datetime:
        try:
            # An unquoted + arrives as a space in a query string.
            moment = datetime.fromisoformat(str(data).replace(" ", "+"))
        except ValueError as error:
            raise serializers.ValidationError("Not an ISO 8601 moment.") from error
        if not 1970 <= moment.year <= 9000:
            raise serializers.ValidationError("Not between the years 1970 and 9000.")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    def to_representation(self, value: datetime) -> str:
        return value.isoformat()


class ChangesQuery(serializers.Serializer):
    changed_since = Moment(required=False, default=None)
    cursor = serializers.CharField(
        required=False, allow_blank=True, default="", max_length=TEXT_MAX_LENGTH
    )
    limit = serializers.IntegerField(
        required=False, min_value=1, max_value=BATCH_ITEMS_A_REQUEST, default=BATCH_ITEMS_A_REQUEST
    )
    client_id = text(required=False)


class LinksQuery(serializers.Serializer):
    username = text()
    client_id = text(required=False)
