"""Checks access tokens in the Authorization header of requests (RFC 6750)."""

from hashlib import sha256
from typing import Any

from django.http import HttpRequest, JsonResponse
from oauth2_provider.models import get_access_token_model
from oauth2_provider.utils import parse_bearer_token

from usher.application.provider.clients import is_lms
from usher.application.requests import is_storable


class BearerError(Exception):
    """The request has no valid token. code: RFC 6750's error code; '' if the request has no
    token."""

    def __init__(self, status: int, code: str, description: str) -> None:
        super().__init__(description)
        self.status, self.code, self.description = status, code, description

    def response(self) -> JsonResponse:
        challenge = 'Bearer realm="api"'
        body = {"error": self.code or "unauthorized", "error_description": self.description}
        if self.code:
            challenge += f', error="{self.code}", error_description="{self.description}"'
        return JsonResponse(body, status=self.status, headers={"WWW-Authenticate": challenge})


def access_token(request: HttpRequest, *, any_of: set[str]) -> Any:
    """The request's access token, with its ``user`` loaded.

    any_of: the token must have one of these scopes. Raises BearerError.
    """
    text = parse_bearer_token(request.META.get("HTTP_AUTHORIZATION"))
    if text is None:
        description = "Present an access token in the Authorization header."
        raise BearerError(401, code="", description=description)
    if not is_storable(text):
        raise BearerError(401, "invalid_token", "The access token is invalid.")
    token = (
        get_access_token_model()
        .objects.select_related("user", "user__lms_account", "application__usher_policy")
        .filter(token_checksum=sha256(text.encode()).hexdigest())
        .first()
    )
    if token is None or token.user is None or not token.user.is_active:
        raise BearerError(401, "invalid_token", "The access token is invalid.")
    if token.is_expired():
        raise BearerError(401, "invalid_token", "The access token has expired.")
    if not token.allows_audience(request.build_absolute_uri(request.path)):
        raise BearerError(401, "invalid_token", "The access token is for another resource.")
    if not any_of & set(token.scope.split()):
        raise BearerError(403, "insufficient_scope", "The access token lacks the scope.")
    return token


def lms_token(request: HttpRequest, *, any_of: set[str]) -> Any:
    """As ``access_token``, for endpoints that only an LMS may use.

    The LMS signs in, and registers, the learner to whom a token belongs. So another client with a
    learner's token could sign in to the LMS as the learner. Therefore tokens of other clients are
    refused. Raises BearerError.
    """
    token = access_token(request, any_of=any_of)
    if not is_lms(token.application):
        raise BearerError(403, "insufficient_scope", "The access token is not an LMS's.")
    return token
