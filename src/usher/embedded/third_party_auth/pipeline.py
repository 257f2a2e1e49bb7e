"""Steps of sign-in through a provider, in the platform's order (see ``switch.PIPELINE``).

A step that returns a response stops the pipeline. The pipeline continues when the browser requests
``/auth/complete/<backend>/`` again.
"""

import logging
import re
import secrets
import string
from typing import Any, cast

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.http import HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from social_core.exceptions import AuthException
from social_core.pipeline.partial import partial
from social_core.pipeline.social_auth import associate_by_email

from usher.contract.limits import USERNAME_MAX_LENGTH, USERNAME_MIN_LENGTH
from usher.embedded.student.models import email_exists_or_retired
from usher.embedded.third_party_auth import registry
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig
from usher.embedded.user_authn import cookies
from usher.embedded.user_authn.redirects import is_safe_redirect
from usher.embedded.verify_student.models import SSOVerification

log = logging.getLogger(__name__)

#: Key in the session: where the sign-in began, one of the following values.
AUTH_ENTRY_KEY = "auth_entry"
AUTH_ENTRY_LOGIN = "login"
AUTH_ENTRY_REGISTER = "register"
AUTH_ENTRY_ACCOUNT_SETTINGS = "account_settings"
AUTH_ENTRY_LOGIN_API = "login_api"
AUTH_ENTRY_REGISTER_API = "register_api"
API_ENTRIES = (AUTH_ENTRY_LOGIN_API, AUTH_ENTRY_REGISTER_API)
#: Where the sign-in began → the page for learners whom it does not sign in.
AUTH_DISPATCH_URLS = {
    AUTH_ENTRY_LOGIN: "/login",
    AUTH_ENTRY_REGISTER: "/register",
    AUTH_ENTRY_ACCOUNT_SETTINGS: "/account/settings",
}
_ENTRIES = (*AUTH_DISPATCH_URLS, *API_ENTRIES)


class AuthEntryError(AuthException):
    """``auth_entry`` has an unknown value."""


def clean_username(username: str = "") -> str:
    """The parts of the provider's username that are allowed, joined by underscores, and cut to the
    greatest length."""
    return "_".join(re.findall(r"[a-zA-Z0-9\-]+", username))[:USERNAME_MAX_LENGTH]


def user_exists(details: dict[str, Any]) -> bool:
    """Whether an account has the e-mail address in ``details``. If ``details`` has no address:
    whether an account has the username, in upper or lower case."""
    email, username = details.get("email"), details.get("username")
    if email:
        return email_exists_or_retired(email)
    return bool(username) and User.objects.filter(username__iexact=username).exists()


def parse_query_params(strategy: Any, response: Any, *args: Any, **kwargs: Any) -> dict[str, str]:
    """``auth_entry`` of the session, by default ``login``, for the later steps. Raises
    AuthEntryError for an unknown value."""
    entry = strategy.request.session.get(AUTH_ENTRY_KEY) or AUTH_ENTRY_LOGIN
    if entry not in (*_ENTRIES, *getattr(settings, "THIRD_PARTY_AUTH_CUSTOM_AUTH_FORMS", {})):
        raise AuthEntryError(strategy.request.backend, "auth_entry invalid")
    return {"auth_entry": entry}


def associate_by_email_if_oauth(
    auth_entry: str,
    backend: Any,
    details: dict[str, Any],
    user: Any = None,
    *args: Any,
    **kwargs: Any,
) -> dict[str, Any] | None:
    """Associate the sign-in with the account of the same e-mail address, if that account is active.
    The platform does so for every OAuth provider.
    """
    if user is not None or registry.find_by_backend(backend.name) is None:
        return None
    association = associate_by_email(backend, details, user, *args, **kwargs)
    if association and association.get("user") and association["user"].is_active:
        return dict(association)
    return None


def get_username(
    strategy: Any,
    details: dict[str, Any],
    backend: Any,
    user: Any = None,
    *args: Any,
    **kwargs: Any,
) -> dict[str, str]:
    """The username of ``user``. For a new user: the provider's username, cleaned, with a random
    suffix if the username is taken."""
    if user:
        return {"username": strategy.storage.user.get_username(user)}
    username = details.get("username") or secrets.token_hex(16)
    name = clean_username(username[:USERNAME_MAX_LENGTH])
    letters = string.ascii_lowercase + string.digits
    while len(name) < USERNAME_MIN_LENGTH or user_exists({"username": name}):
        length = 3 + secrets.randbelow(8)  # from 3 to 10
        suffix = "".join(secrets.choice(letters) for _ in range(length))
        name = clean_username(f"{username[: USERNAME_MAX_LENGTH - length - 1]}-{suffix}")
    return {"username": name}


def set_pipeline_timeout(strategy: Any, user: Any, *args: Any, **kwargs: Any) -> None:
    """Unless the user is known already, limit how long an unfinished sign-in is kept, because
    several people may use one computer."""
    if strategy.request and not user:
        strategy.request.session.set_expiry(strategy.setting("PIPELINE_TIMEOUT", 600))


@partial
def ensure_user_information(
    strategy: Any,
    auth_entry: str,
    backend: Any = None,
    user: Any = None,
    details: dict[str, Any] | None = None,
    current_partial: Any = None,
    *args: Any,
    **kwargs: Any,
) -> HttpResponse | None:
    """Continue with a known user. Otherwise redirect to ``/login`` or ``/register``, or answer 400
    if an API started the pipeline for a learner without an account."""
    if current_partial:
        # ``registry.running_pipeline`` reads this copy of the token.
        strategy.session_set("partial_pipeline_token_", current_partial.token)
        strategy.storage.partial.store(current_partial)
    if user:
        return None
    if user_exists(details or {}):
        return redirect(AUTH_DISPATCH_URLS[AUTH_ENTRY_LOGIN])
    if auth_entry in API_ENTRIES:
        return HttpResponseBadRequest()
    if auth_entry == AUTH_ENTRY_ACCOUNT_SETTINGS:
        raise AuthEntryError(backend, "auth_entry is wrong. Settings requires a user.")
    record = registry.find_by_backend(backend.name)
    trusted = record and (record.skip_email_verification or record.send_to_registration_first)
    to_register = auth_entry == AUTH_ENTRY_REGISTER or trusted
    return redirect(AUTH_DISPATCH_URLS[AUTH_ENTRY_REGISTER if to_register else AUTH_ENTRY_LOGIN])


def user_details_force_sync(
    strategy: Any, details: dict[str, Any], user: Any = None, *args: Any, **kwargs: Any
) -> None:
    """Copies the provider's e-mail address, names and country to the account if the provider record
    says so; never the username, nor an e-mail address that another account has."""
    record = registry.find_by_backend(strategy.request.backend.name)
    if not user or not record or not record.sync_learner_profile_data:
        return
    #: Name in ``details`` → object and field that get the value.
    targets = {field: (user, field) for field in details if hasattr(user, field)}
    targets |= {"fullname": (user.profile, "name"), "country": (user.profile, "country")}
    targets.pop("username", None)
    is_changed = False
    for detail, (model, field) in targets.items():
        value = details.get(detail)
        if value is None or getattr(model, field) == value:
            continue
        if field == "email" and User.objects.filter(email=value).exists():
            log.warning(
                "e-mail address of %s not synchronized: another account has it", user.username
            )
            continue
        setattr(model, field, value)
        is_changed = True
    if is_changed:
        user.save()
        user.profile.save()


def set_id_verification_status(strategy: Any, user: Any = None, *args: Any, **kwargs: Any) -> None:
    """Record an identity verification if the provider record says so."""
    record = registry.find_by_backend(strategy.request.backend.name)
    if not user or not record or not record.enable_sso_id_verification:
        return
    verify_identity(user, record)


def verify_identity(user: User, record: OAuth2ProviderConfig) -> None:
    """Record that the provider verified the user's identity, once for each user and provider."""
    SSOVerification.objects.get_or_create(
        user=user,
        status="approved",
        identity_provider_type=record.full_class_name,
        identity_provider_slug=record.slug,
        defaults={"name": user.profile.name},
    )


@partial
def set_logged_in_cookies(
    backend: Any = None,
    user: Any = None,
    strategy: Any = None,
    auth_entry: str | None = None,
    current_partial: Any = None,
    *args: Any,
    **kwargs: Any,
) -> HttpResponse | None:
    """Set the sign-in cookies with a redirect that resumes the pipeline. The owner of an account
    without a usable password is signed out and gets status 403."""
    if auth_entry in API_ENTRIES or user is None or not user.is_authenticated:
        return None
    request: Any = strategy.request if strategy else None
    if not user.has_usable_password():
        logout(request)
        return JsonResponse("Your account is disabled", status=403, safe=False)
    if request is None or cookies.are_set(request):
        return None
    if registry.find_by_backend(current_partial.backend) is None:
        return None
    completion = redirect(reverse("social:complete", args=[current_partial.backend]) + "?")
    return cookies.set_logged_in_cookies(request, completion, user)


def ensure_redirect_url_is_safe(strategy: Any, *args: Any, **kwargs: Any) -> None:
    """If ``next`` leads to a site that isn't allowed, replace it with the default address."""
    target = strategy.session_get("next", None)
    if target and strategy.request and not is_safe_redirect(strategy.request, target):
        # ``switch`` adds this setting, which the type checker doesn't know.
        strategy.session_set("next", cast(Any, settings).SOCIAL_AUTH_LOGIN_REDIRECT_URL)
