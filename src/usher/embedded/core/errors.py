"""Errors of the platform's newer endpoints.

Their fields: ``developer_message``, ``error_code``, ``field_errors``.
"""

from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ObjectDoesNotExist, ValidationError
from django.http import Http404
from rest_framework import views
from rest_framework.exceptions import APIException, NotFound
from rest_framework.response import Response


class ApiError(Exception):
    """Raised by views to answer with ``status``. message and code: ``developer_message`` and
    ``error_code`` of the answer."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def _error_response(status: int, message: Any, code: str | None = None) -> Response:
    body = {"developer_message": message}
    if code is not None:
        body["error_code"] = code
    return Response(body, status=status)


def _validation_response(error: ValidationError) -> Response:
    """Status 400. Of each field, the answer has only the first message."""
    if not hasattr(error, "error_dict"):
        return _error_response(400, error.messages[0])
    fields = dict(error.message_dict)
    general_messages = fields.pop(NON_FIELD_ERRORS, []) + fields.pop("non_field_errors", [])
    body: dict[str, Any] = {"developer_message": general_messages[0]} if general_messages else {}
    if fields:
        body["field_errors"] = {
            name: {"developer_message": messages[0]} for name, messages in fields.items()
        }
    return Response(body, status=400)


class DeveloperErrorMixin:
    """Turns a view's exceptions into answers with ``developer_message``, ``error_code`` and
    ``field_errors``."""

    def handle_exception(self, error: Exception) -> Response:
        if isinstance(error, ApiError):
            return _error_response(error.status, error.message, error.code)
        if isinstance(error, APIException):
            return _error_response(error.status_code, error.detail)
        if isinstance(error, Http404 | ObjectDoesNotExist):
            return _error_response(404, str(error) or "Not found.")
        if isinstance(error, ValidationError):
            return _validation_response(error)
        raise error


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Hides the name of a missing object, as the LMS's version of the REST framework does."""
    if isinstance(error, Http404):
        error = NotFound()
    return views.exception_handler(error, context)
