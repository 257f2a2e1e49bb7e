"""Redirects a failed sign-in to the page where it was started."""

from django.http import HttpRequest
from social_django.middleware import SocialAuthExceptionMiddleware

from usher.embedded.third_party_auth.pipeline import AUTH_DISPATCH_URLS, AUTH_ENTRY_KEY


class ExceptionMiddleware(SocialAuthExceptionMiddleware):
    def get_redirect_uri(self, request: HttpRequest, exception: Exception) -> str:
        entry = request.session.get(AUTH_ENTRY_KEY)
        if entry in AUTH_DISPATCH_URLS:
            return AUTH_DISPATCH_URLS[entry]
        return super().get_redirect_uri(request, exception)
