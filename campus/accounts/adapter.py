"""campus's changes to allauth's behaviour."""

import re
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.core import context as allauth_context
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from usher.application.accounts.services import is_username_free
from usher.contract.limits import USERNAME_MAX_LENGTH, USERNAME_MIN_LENGTH, USERNAME_PATTERN


class CampusAccountAdapter(DefaultAccountAdapter):
    def clean_username(self, username: str, shallow: bool = False) -> str:
        """Accept only usernames that are valid in the LMS and that nobody has had before: the LMS
        identifies a learner by the username. Raises ValidationError.

        shallow: skip the database, as allauth does while it makes up a username."""
        if not re.fullmatch(USERNAME_PATTERN, username):
            raise ValidationError("Use letters A to Z, digits, - and _ only.", code="characters")
        if not USERNAME_MIN_LENGTH <= len(username) <= USERNAME_MAX_LENGTH:
            raise ValidationError(
                f"Use {USERNAME_MIN_LENGTH} to {USERNAME_MAX_LENGTH} characters.", code="length"
            )
        username = super().clean_username(username, shallow)
        if not shallow and not is_username_free(username):
            raise self.validation_error("username_taken")
        return str(username)

    def pre_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> HttpResponse | None:
        """Record the e-mail address of a user created by staff as confirmed, so that allauth does
        not ask for a confirmation. Such a user has no ``EmailAddress``, which sign-up creates."""
        if not kwargs.get("signup") and user.email and not user.emailaddress_set.exists():
            EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
        response: HttpResponse | None = super().pre_login(request, user, **kwargs)
        return response

    def is_safe_url(self, url: str) -> bool:
        """Return False for a URL that can't be parsed, for which allauth raises ValueError."""
        try:
            return bool(super().is_safe_url(url))
        except ValueError:
            return False

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Build links in mails from SITE_BASE_URL instead of the request's Host header, which an
        attacker can forge to send a learner a link to another host."""
        request = allauth_context.request
        request_url = request.build_absolute_uri("/").rstrip("/") if request is not None else ""
        site = SimpleNamespace(
            domain=urlsplit(settings.SITE_BASE_URL).netloc, name=settings.SITE_NAME
        )
        safe_context: dict[str, Any] = {"current_site": site}
        for name, value in context.items():
            is_link = isinstance(value, str) and value.startswith(f"{request_url}/")
            if request_url and is_link:
                safe_context[name] = settings.SITE_BASE_URL + value.removeprefix(request_url)
            else:
                safe_context[name] = value
        super().send_mail(template_prefix, email, safe_context)

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """Count wrong passwords by account only. allauth counts by account and Host header, so each
        other header, such as one with another port, would allow an attacker further guesses."""
        return str(credentials.get("email", credentials.get("username", ""))).lower()

    def get_logout_redirect_url(self, request: HttpRequest) -> str:
        """Redirect to the sign-out that also ends the session in the LMS."""
        return reverse("usher-sign-out")
