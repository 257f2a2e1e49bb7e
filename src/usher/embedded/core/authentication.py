"""Authentication by bearer tokens of the LMS's OAuth server, with the platform's error messages."""

from typing import Any

from django.utils import timezone
from edx_rest_framework_extensions.auth.jwt.authentication import JwtAuthentication
from edx_rest_framework_extensions.auth.session.authentication import (
    SessionAuthenticationAllowInactiveUser,
)
from oauth2_provider.models import get_access_token_model, get_application_model
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed


def _refusal(code: str, message: str) -> AuthenticationFailed:
    return AuthenticationFailed({"error_code": code, "developer_message": message})


class BearerAuthentication(BaseAuthentication):
    """``Authorization: Bearer <token>``, for active users only."""

    allow_inactive_users = False

    def authenticate(self, request: Any) -> tuple[Any, Any] | None:
        """User and token; None without a bearer token. Raises AuthenticationFailed, even for a
        header of another scheme that has not exactly two words."""
        words = get_authorization_header(request).split()
        if len(words) == 1:
            raise _refusal("token_not_provided", "Invalid token header. No credentials provided.")
        if len(words) > 2:
            raise _refusal(
                "token_malformed", "Invalid token header. Token string should not contain spaces."
            )
        if not words or words[0].lower() != b"bearer":
            return None
        return self.authenticate_credentials(words[1].decode("utf8", "replace"))

    def authenticate_credentials(self, text: str) -> tuple[Any, Any]:
        token = get_access_token_model().objects.select_related("user").filter(token=text).first()
        if token is None:
            raise _refusal(
                "token_nonexistent", "The provided access token does not match any valid tokens."
            )
        if token.expires < timezone.now():
            raise _refusal(
                "token_expired", "The provided access token has expired and is no longer valid."
            )
        user = token.user
        # An account without a usable password counts as disabled, except a service account, which
        # never has a password and owns an OAuth client.
        own_clients = get_application_model().objects.filter(user_id=user.id)
        if not user.has_usable_password() and not own_clients.exists():
            raise _refusal("user_is_disabled", f"User disabled by admin: {user.get_username()}")
        if not self.allow_inactive_users and not user.is_active:
            raise _refusal("user_not_active", f"User inactive or deleted: {user.get_username()}")
        return user, token

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="api"'


class BearerAuthenticationAllowInactiveUser(BearerAuthentication):
    allow_inactive_users = True


#: Authentication classes of most endpoints.
API_AUTHENTICATION = (
    JwtAuthentication,
    BearerAuthenticationAllowInactiveUser,
    SessionAuthenticationAllowInactiveUser,
)
