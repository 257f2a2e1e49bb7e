from urllib.parse import urlsplit, urlunsplit

from oauth2_provider.oauth2_validators import OAuth2Validator


class Validator(OAuth2Validator):
    """As the toolkit did itself before 3.4: a redirect URI may carry a query of its own."""

    def validate_redirect_uri(self, client_id, redirect_uri, request, *args, **kwargs):
        plain = urlunsplit(urlsplit(redirect_uri)._replace(query=""))
        return super().validate_redirect_uri(client_id, plain, request, *args, **kwargs)
