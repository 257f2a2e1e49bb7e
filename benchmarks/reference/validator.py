"""django-oauth-toolkit's validator, which compares redirect URIs as releases before 3.4 did:
``redirect_state``, which python-social-auth adds to the registered URI, is ignored."""

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator


class Validator(OAuth2Validator):
    def validate_redirect_uri(
        self, client_id: str, redirect_uri: str, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        registered = redirect_uri.partition("?redirect_state=")[0]
        return bool(super().validate_redirect_uri(client_id, registered, request, *args, **kwargs))
