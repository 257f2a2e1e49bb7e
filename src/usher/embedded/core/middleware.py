"""The platform's middleware whose effect on requests and responses is visible to clients."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden

View = Callable[[HttpRequest], HttpResponse]


class XForwardedForMiddleware:
    """Sets the client's address to the last address in X-Forwarded-For, which the proxy in front of
    the LMS added."""

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
        if forwarded:
            request.META["REMOTE_ADDR"] = forwarded.split(",")[-1].strip()
        return self.get_response(request)


class EmailInSessionMiddleware:
    """Stores the user's e-mail address in the session, so that a change of the address can end
    other sessions.

    As on the platform, a request authenticated by a token therefore also gets a session cookie.
    """

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        session_email = request.session.get("email")
        enforced = settings.ENFORCE_SESSION_EMAIL_MATCH
        if (
            enforced
            and request.user.is_authenticated
            and session_email
            and request.user.email != session_email
        ):
            logout(request)
        response = self.get_response(request)
        if request.user.is_authenticated and request.session.get("email") is None:
            request.session["email"] = request.user.email
        return response


class UserStandingMiddleware:
    """Answers every request of a disabled account with a message that the account is disabled."""

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated:
            try:
                disabled = request.user.standing.account_status == "disabled"
            except ObjectDoesNotExist:
                disabled = False
            if disabled:
                return HttpResponseForbidden("Your account has been disabled.")
        return self.get_response(request)


class LanguagePreferenceMiddleware:
    """Sets the language cookie to the signed-in user's preference; deletes the cookie if the user
    has none."""

    def __init__(self, get_response: View) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        from usher.embedded.user_api.models import LANGUAGE_KEY, UserPreference

        response = self.get_response(request)
        if request.user.is_authenticated:
            language = UserPreference.get_value(request.user, LANGUAGE_KEY)
            if language:
                response.set_cookie(
                    settings.LANGUAGE_COOKIE_NAME, language, max_age=14 * 24 * 3600, path="/"
                )
            elif settings.LANGUAGE_COOKIE_NAME in request.COOKIES:
                response.delete_cookie(settings.LANGUAGE_COOKIE_NAME)
        return response
