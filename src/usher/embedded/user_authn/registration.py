"""Creates accounts: from the form in the browser, or for an application that sends the learner's
access token."""

import logging
import secrets
import string
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate, login
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.urls import reverse
from django.utils.translation import get_language
from django_countries import countries
from requests import HTTPError
from social_core.exceptions import AuthAlreadyAssociated, AuthException
from social_django.utils import load_backend, load_strategy

from usher.contract.failures import RegistrationError
from usher.embedded.student import events
from usher.embedded.student.models import (
    Registration,
    UserAttribute,
    UserProfile,
    email_exists_or_retired,
    username_exists_or_retired,
)
from usher.embedded.third_party_auth import pipeline, registry
from usher.embedded.user_api.models import LANGUAGE_KEY, UserPreference
from usher.embedded.user_authn import messages
from usher.embedded.user_authn.errors import RegistrationRefused
from usher.embedded.user_authn.forms import AccountCreationForm
from usher.embedded.user_authn.suggestions import suggest_usernames

log = logging.getLogger(__name__)

#: This many random letters and digits can't be guessed: they are more than 256 random bits, and the
#: password is shorter than MaximumLengthValidator allows.
RANDOM_LENGTH = 43
_PROFILE_FIELDS = (
    "name",
    "level_of_education",
    "gender",
    "mailing_address",
    "city",
    "country",
    "goals",
    "year_of_birth",
)


def random_password() -> str:
    """A random, usable password for a user who signs in through a provider."""
    letters = string.ascii_letters + string.digits
    random_text = "".join(secrets.choice(letters) for _ in range(RANDOM_LENGTH))
    # Password rules of an LMS may require a letter and a digit.
    return f"a1{random_text}"


def refuse_duplicates(data: dict[str, Any]) -> None:
    """Raises RegistrationRefused (409) when the e-mail, the username, or both are taken."""
    email, username = data.get("email"), data.get("username")
    fields: dict[str, Any] = {}
    code = "duplicate"
    if email is not None and email_exists_or_retired(email):
        code += "-email"
        fields["email"] = [messages.EMAIL_TAKEN]
    if username is not None and username_exists_or_retired(username):
        code += "-username"
        fields["username"] = [messages.USERNAME_TAKEN]
        fields["username_suggestions"] = suggest_usernames(username)
    if fields:
        raise RegistrationRefused(409, code, fields)


def refuse_unknown_country(data: dict[str, Any]) -> None:
    country = data.get("country")
    is_known = country in dict(countries)
    required = settings.REGISTRATION_EXTRA_FIELDS.get("country", "hidden") == "required"
    if not is_known and (country or required):
        raise RegistrationRefused(
            400, RegistrationError.INVALID_COUNTRY, {"country": [messages.COUNTRY_REQUIRED]}
        )


def create_account(request: Any, data: dict[str, Any]) -> User:
    """Create the account that ``data`` describes and sign its owner in to this session. If the
    learner comes from a provider, sets a random password in ``data``.

    Raises RegistrationRefused; PermissionDenied where public registration is disabled.
    """
    has_provider = "provider" in data
    third_party_auth_enabled = registry.is_enabled()
    unfinished_sign_in = registry.running_pipeline(request) if third_party_auth_enabled else None
    if third_party_auth_enabled and (unfinished_sign_in or has_provider):
        data["password"] = random_password()
    if third_party_auth_enabled and "social_auth_provider" in data and not unfinished_sign_in:
        provider = data["social_auth_provider"]
        raise RegistrationRefused(
            400,
            "tpa-session-expired",
            {"session_expired": [f"Registration using {provider} has timed out."]},
        )
    form = _validated_form(data)
    # Outside the transaction, because the request to the application takes time.
    identity = _fetch_identity(request, data) if third_party_auth_enabled and has_provider else None
    with transaction.atomic():
        user, registration = _create_user(form)
        if identity is not None:
            _link_account(request, user, data["access_token"], identity)
        signed_in = authenticate(
            request, username=user.username, password=form.cleaned_data["password"]
        )
        login(request, signed_in)
        request.session.set_expiry(0)  # when the browser is closed
    _activate_and_announce(request, user, registration)
    return user


def _validated_form(data: dict[str, Any]) -> AccountCreationForm:
    if not settings.FEATURES.get("ALLOW_PUBLIC_ACCOUNT_CREATION", True):
        raise PermissionDenied
    form = AccountCreationForm(data, settings.REGISTRATION_EXTRA_FIELDS)
    if form.errors:
        fields = {name: list(errors) for name, errors in form.errors.items()}
        raise RegistrationRefused(400, RegistrationError.VALIDATION, fields)
    return form


def _create_user(form: AccountCreationForm) -> tuple[User, Registration]:
    """Create the inactive account, its activation key and its profile. Raises RegistrationRefused
    if another request has created the account since the check for duplicates."""
    clean = form.cleaned_data
    user = User(username=clean["username"], email=clean["email"], is_active=False)
    user.set_password(clean["password"])
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError as error:
        raise _duplicate_refusal(user) from error
    registration = Registration()
    registration.register(user)
    UserProfile.objects.create(user=user, **{name: clean.get(name) for name in _PROFILE_FIELDS})
    return user, registration


def _duplicate_refusal(user: User) -> RegistrationRefused:
    """The refusal when another request created the account at the same time."""
    if username_exists_or_retired(user.username):
        message = f"An account with the Public Username '{user.username}' already exists."
        return RegistrationRefused(
            409, RegistrationError.DUPLICATE_USERNAME, {"username": [message]}
        )
    message = f"An account with the Email '{user.email}' already exists."
    return RegistrationRefused(409, RegistrationError.DUPLICATE_EMAIL, {"email": [message]})


def _token_refusal(code: str, message: str) -> RegistrationRefused:
    return RegistrationRefused(400, code, {"access_token": [message]})


def _fetch_identity(request: Any, data: dict[str, Any]) -> dict[str, Any]:
    """The owner of the learner's access token, according to the application. Sets what
    ``_link_account`` uses: ``request.backend``, ``request.social_strategy`` and the session's
    ``auth_entry``. Raises RegistrationRefused."""
    name, token = data["provider"], data.get("access_token")
    request.social_strategy = load_strategy(request)
    request.backend = load_backend(
        request.social_strategy, name, reverse("social:complete", args=[name])
    )
    if not token:
        message = f"An access_token is required when passing value ({name}) for provider."
        raise _token_refusal("tpa-missing-access-token", message)
    request.session[pipeline.AUTH_ENTRY_KEY] = pipeline.AUTH_ENTRY_REGISTER_API
    try:
        answer = request.backend.user_data(token)
    except (HTTPError, AuthException) as error:
        message = "The provided access_token is not valid."
        raise _token_refusal(RegistrationError.INVALID_ACCESS_TOKEN, message) from error
    return {"access_token": token, **(answer or {})}


def _link_account(request: Any, user: User, token: str, identity: dict[str, Any]) -> None:
    """Link the account ``user`` to the application's user in ``identity``, through the sign-in
    pipeline. Raises RegistrationRefused; code and message are empty if a step of the pipeline
    answered with a page."""
    strategy, backend = request.social_strategy, request.backend
    code, message = "", ""
    linked = None
    try:
        linked = strategy.authenticate(backend=backend, response=identity, user=user)
    except AuthAlreadyAssociated:
        message = "The provided access_token is already associated with another user."
        code = "tpa-token-already-associated"
    except (HTTPError, AuthException):
        message = "The provided access_token is not valid."
        code = RegistrationError.INVALID_ACCESS_TOKEN
    if not isinstance(linked, User):
        # Delete the unfinished pipeline, so that it is not resumed.
        strategy.clean_partial_pipeline(token)
        raise _token_refusal(code, message)


def announce(users: Sequence[User], site: Any) -> None:
    """Create the attribute and language preference of each new account, and send the events of the
    registrations."""
    if site.pk != settings.SITE_ID:
        # As on the platform, accounts created on the LMS's own site lack this attribute.
        for user in users:
            UserAttribute.set_user_attribute(user, "created_on_site", site.domain)
    _add_language_preferences(users)
    for user in users:
        events.send_registration_completed(user)


def _add_language_preferences(users: Sequence[User]) -> None:
    existing = UserPreference.objects.filter(user__in=users, key=LANGUAGE_KEY)
    user_ids_with_preference = set(existing.values_list("user_id", flat=True))
    language = get_language() or settings.LANGUAGE_CODE
    UserPreference.objects.bulk_create(
        [
            UserPreference(user=user, key=LANGUAGE_KEY, value=language)
            for user in users
            if user.pk not in user_ids_with_preference
        ]
    )


def _activate_and_announce(request: Any, user: User, registration: Registration) -> None:
    """Activate a trusted account; log the activation e-mail that other accounts would get. Then
    announce the account."""
    if _is_trusted(request, user):
        registration.user = user
        registration.activate()
    else:
        log.info("activation e-mail for %s", user.username)
    announce([user], request.site)


def _is_trusted(request: Any, user: User) -> bool:
    """Whether the account becomes active before its owner confirms the e-mail address."""
    if settings.FEATURES.get("SKIP_EMAIL_VALIDATION"):
        return True
    unfinished_sign_in = registry.running_pipeline(request) if registry.is_enabled() else None
    if unfinished_sign_in is None:
        return False
    record = registry.find_by_backend(unfinished_sign_in["backend"])
    if record is None or not record.skip_email_verification:
        return False
    return unfinished_sign_in["kwargs"].get("details", {}).get("email") == user.email
