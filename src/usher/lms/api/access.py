"""Authentication, permissions and the base view of the batch API."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import transaction
from django.utils import timezone
from django.utils.decorators import method_decorator
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import (
    AuthenticationFailed,
    ParseError,
    PermissionDenied,
    ValidationError,
)
from rest_framework.parsers import JSONParser
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView

from usher.lms.connections.models import ConnectedApplication
from usher.lms.connections.services import (
    NotAServiceWorker,
    UnknownApplication,
    check_client_id,
    identify_caller,
)
from usher.lms.connections.tokens import find_access_token


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer <access token of this LMS>``, and nothing else: no cookies.
    ``request.auth`` is then the token's row of the OAuth toolkit, or None without a token."""

    def authenticate(self, request: Any) -> tuple[Any, Any] | None:
        scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            return None
        token = find_access_token(presented.strip())
        if token is None or token.user is None or not token.user.is_active:
            raise AuthenticationFailed("The access token is not valid.", code="invalid_token")
        if token.expires <= timezone.now():
            raise AuthenticationFailed("The access token has expired.", code="token_expired")
        return token.user, token

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="usher"'


class ServiceWorkerOnly(BasePermission):
    """Allows the service worker of a connected application whose token has the scope that the
    method needs.

    Sets ``request.usher_application``, which depends only on the token.
    """

    def has_permission(self, request: Any, view: Any) -> bool:
        if request.auth is None:
            return False
        try:
            caller = identify_caller(request.auth)
        except NotAServiceWorker as error:
            raise PermissionDenied(str(error)) from error
        scope = "read" if request.method in SAFE_METHODS else "write"
        if scope not in caller.scopes:
            raise PermissionDenied(f"The access token lacks the scope {scope}.")
        request.usher_application = caller.application
        return True


def calling_application(request: Any, client_id: str = "") -> ConnectedApplication:
    """The application that calls. client_id: the client id in the request, or ''. Raises
    ValidationError when it is another application's."""
    application: ConnectedApplication = request.usher_application
    try:
        check_client_id(application, client_id)
    except UnknownApplication as error:
        raise ValidationError({"client_id": [str(error)]}) from error
    return application


class Parser(JSONParser):
    """JSON parser that answers 400 to input nested too deeply."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError as error:
            raise ParseError("JSON is nested too deeply.") from error


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ServiceWorkerView(APIView):
    """Base of the views, independent of the platform's REST framework defaults.

    ``ATOMIC_REQUESTS``, which Tutor switches on, is off here: a batch is many short transactions.
    """

    authentication_classes: ClassVar = [TokenAuthentication]
    permission_classes: ClassVar = [ServiceWorkerOnly]
    throttle_classes: ClassVar[list[Any]] = []
    parser_classes: ClassVar = [Parser]
    renderer_classes: ClassVar = [JSONRenderer]
