"""The platform's rules on top of the OAuth toolkit's."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.utils import timezone
from oauth2_provider.models import get_access_token_model
from oauth2_provider.oauth2_validators import OAuth2Validator

from usher.embedded.oauth_dispatch.models import RestrictedApplication
from usher.embedded.oauth_dispatch.scopes import ApplicationModelScopes


class LmsOAuth2Validator(OAuth2Validator):
    def validate_user(
        self, username: str, password: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        """Whether a user with this username or e-mail address has this password. Sets
        ``request.user`` to the user."""
        user = authenticate(username=username, password=password)
        if user is None:
            user_with_email = User.objects.filter(email=username).first()
            if user_with_email:
                user = authenticate(username=user_with_email.username, password=password)
        if user is not None:
            request.user = user
        return user is not None

    def save_bearer_token(
        self, token: dict[str, Any], request: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Save the token. A token of the client credentials grant belongs to the client's user.
        ``_set_expiry`` may change the token's expiry."""
        grant_type, user = request.grant_type, request.user
        if grant_type == "client_credentials":
            # The toolkit would drop the user for this grant.
            request.grant_type, request.user = None, request.client.user
        super().save_bearer_token(token, request, *args, **kwargs)
        self._set_expiry(token, request)
        request.grant_type, request.user = grant_type, user

    def _set_expiry(self, token: dict[str, Any], request: Any) -> None:
        """Store the opaque token of a restricted application as expired. Other tokens live for
        ``request.expires_in`` seconds, if that is set."""
        records = get_access_token_model().objects.filter(token=token["access_token"])
        body = getattr(request, "decoded_body", None) or []
        jwt_requested = dict(body).get("token_type", "").lower() == "jwt"
        restricted = RestrictedApplication.objects.filter(application=request.client).exists()
        if restricted and not jwt_requested:
            long_ago = datetime(1970, 1, 1, tzinfo=UTC)
            records.update(expires=long_ago)
            token["expires_in"] = (long_ago - timezone.now()).total_seconds()
        elif getattr(request, "expires_in", None):
            seconds = int(request.expires_in)
            records.update(expires=timezone.now() + timedelta(seconds=seconds))
            token["expires_in"] = seconds

    def get_default_scopes(
        self, client_id: str, request: Any, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Also ``user_id`` for a service client with this scope: as on the platform, such a client
        need not ask for it."""
        scopes = list(super().get_default_scopes(client_id, request, *args, **kwargs))
        requests_default_scopes = request.grant_type == "client_credentials" and not request.scopes
        if requests_default_scopes and ApplicationModelScopes().has_user_id(request.client):
            scopes.append("user_id")
        return scopes

    def validate_scopes(
        self,
        client_id: str,
        scopes: list[str],
        client: Any,
        request: Any,
        *args: Any,
        **kwargs: Any,
    ) -> bool:
        return set(scopes) <= ApplicationModelScopes().get_available_scopes(client, request)
