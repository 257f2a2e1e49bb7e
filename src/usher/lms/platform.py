"""Adapter for edx-platform: a function for each part of the platform that Usher uses. Only this
module, ``platform_enrollments`` and ``platform_receivers`` import the platform.

The setting ``USHER_PLATFORM`` names the adapter module (see ``usher.lms.conf.platform``). Another
LMS, such as the embedded one, has a module with the same functions. Models of libraries (users,
sites, OAuth toolkit, social links) are used directly and are not part of the adapter.

Imports are inside the functions, because this module is also imported before the platform's apps
are loaded. The names are those of the Open edX releases from Sumac to Verawood.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from usher.contract.failures import RegistrationError
from usher.lms.bulk import save_new
from usher.lms.errors import AccountRefused
from usher.lms.platform_enrollments import add_enrollments, set_enrollment
from usher.lms.platform_receivers import (
    after_inserting_users,
    before_inserting_preferences,
    before_inserting_profiles,
    before_inserting_users,
)

__all__ = [
    "add_enrollments",
    "after_inserting_users",
    "before_inserting_profiles",
    "before_inserting_users",
    "set_enrollment",
]

log = logging.getLogger(__name__)

#: The pipeline step before which an unknown learner's account must exist.
PIPELINE_ANCHOR = "common.djangoapps.third_party_auth.pipeline.ensure_user_information"


# --- models ----------------------------------------------------------------------------------


def provider_model() -> Any:
    """OAuth2ProviderConfig: versioned, keyed by (site_id, backend_name); the newest row is the
    current one.

    ``save()`` on a new instance adds a version and drops the cached one.
    """
    from common.djangoapps.third_party_auth.models import OAuth2ProviderConfig

    return OAuth2ProviderConfig


def profile_model() -> Any:
    """UserProfile: one-to-one ``user``, related name ``profile``; ``name``, ``country``."""
    from common.djangoapps.student.models import UserProfile

    return UserProfile


def registration_model() -> Any:
    """Registration: one-to-one ``user``; ``register(user)`` saves, ``activate()`` activates."""
    from common.djangoapps.student.models import Registration

    return Registration


def enrollment_model() -> Any:
    """CourseEnrollment: ``user``, ``course_id``, ``mode``, ``is_active``, ``created``."""
    from common.djangoapps.student.models import CourseEnrollment

    return CourseEnrollment


def course_overview_model() -> Any:
    """CourseOverview: ``id`` (the key), ``display_name``, ``start``, ``end``,
    ``enrollment_start``, ``enrollment_end``, ``self_paced``, ``invitation_only``, ``modified``."""
    from openedx.core.djangoapps.content.course_overviews.models import CourseOverview

    return CourseOverview


def course_mode_model() -> Any:
    """CourseMode: ``course_id``, ``mode_slug``, ``mode_display_name``, ``min_price``,
    ``currency``, ``expiration_datetime``."""
    from common.djangoapps.course_modes.models import CourseMode

    return CourseMode


def forum_role_links() -> Any:
    """The model of the many-to-many table between forum roles and users."""
    from openedx.core.djangoapps.django_comment_common.models import Role

    return Role.users.through


def throttled_views() -> list[Any]:
    """API views (classes with ``throttle_classes``) whose throttles exempt the service worker."""
    from django.conf import settings
    from lms.djangoapps.course_api import views as courses
    from openedx.core.djangoapps.enrollments import views as enrollments

    modules = [courses, enrollments]
    features: Any = settings.FEATURES
    if features.get("ENABLE_BULK_ENROLLMENT_VIEW"):
        from lms.djangoapps.bulk_enroll import views as bulk_enroll

        modules.append(bulk_enroll)
    return [
        view
        for module in modules
        for view in vars(module).values()
        if isinstance(view, type)
        and view.__module__ == module.__name__
        and getattr(view, "throttle_classes", None)
    ]


def delete_cached_provider(site_id: int, backend: str) -> None:
    """Delete the cached current provider record. Call it after the commit: until then another
    request may cache the old record again."""
    from edx_django_utils.cache import TieredCache

    model = provider_model()
    TieredCache.delete_all_tiers(model.cache_key_name(site_id, backend))
    TieredCache.delete_all_tiers(model.key_values_cache_key_name())
    TieredCache.delete_all_tiers(model.key_values_cache_key_name("backend_name"))


# --- facts about this LMS --------------------------------------------------------------------


def release() -> str:
    """The release line, e.g. ``teak``; ``master`` between releases."""
    from openedx.core.release import RELEASE_LINE

    return RELEASE_LINE


def provider_backends() -> list[str]:
    """Names of the OAuth backends for which a provider record can work in this process."""
    from common.djangoapps.third_party_auth import models

    return list(models._PSA_OAUTH2_BACKENDS)


def course_key(text: str) -> Any:
    """The key of a course run, as the models need it. Raises ValueError for malformed text."""
    from opaque_keys import InvalidKeyError
    from opaque_keys.edx.keys import CourseKey

    try:
        return CourseKey.from_string(text)
    except InvalidKeyError as error:
        raise ValueError(f"{text!r} is not a course key") from error


# --- accounts --------------------------------------------------------------------------------


def retired_usernames(usernames: Iterable[str]) -> set[str]:
    """Those of ``usernames`` whose owners were retired; such usernames must not be reused."""
    from django.conf import settings
    from openedx.core.djangoapps.user_api.models import UserRetirementStatus
    from user_util import user_util

    platform_settings: Any = settings  # only the platform has these
    hashes = partial(
        user_util.get_all_retired_usernames,
        salt_list=platform_settings.RETIRED_USER_SALTS,
        retired_username_fmt=platform_settings.RETIRED_USERNAME_FMT,
    )
    return _find_retired_or_reserved(
        usernames,
        user_field="username",
        hashes_of=hashes,
        other_column=(UserRetirementStatus, "original_username"),
    )


def create_retirement_states() -> None:
    """Create the platform's retirement states if there are none; without them every retirement
    fails."""
    from django.core.management import call_command
    from openedx.core.djangoapps.user_api.models import RetirementState

    if not RetirementState.objects.exists():
        # The command prints, but standard output is for the JSON result of provisioning.
        with contextlib.redirect_stdout(sys.stderr):
            call_command("populate_retirement_states")


def reserved_emails(emails: Iterable[str]) -> set[str]:
    """Those of ``emails`` that were retired, or are a recovery address of an account."""
    from common.djangoapps.student.models import AccountRecovery
    from django.conf import settings
    from user_util import user_util

    platform_settings: Any = settings  # only the platform has these
    hashes = partial(
        user_util.get_all_retired_emails,
        salt_list=platform_settings.RETIRED_USER_SALTS,
        retired_email_fmt=platform_settings.RETIRED_EMAIL_FMT,
    )
    return _find_retired_or_reserved(
        emails,
        user_field="email",
        hashes_of=hashes,
        other_column=(AccountRecovery, "secondary_email"),
    )


def _find_retired_or_reserved(
    values: Iterable[str],
    *,
    user_field: str,
    hashes_of: Callable[[str], Iterable[str]],
    other_column: tuple[Any, str],
) -> set[str]:
    """Those of ``values`` of which a hash is in the column ``user_field`` of a user, or that are in
    the column ``other_column`` (model, column name). Ignores case, as the hashes and MySQL do.
    hashes_of: returns the values that take the place of a value when its user is retired."""
    from django.contrib.auth import get_user_model

    candidates = set(values)
    values_by_hash = {
        hashed: value.casefold() for value in candidates for hashed in hashes_of(value)
    }
    users = get_user_model().objects.filter(**{f"{user_field}__in": list(values_by_hash)})
    reserved = {
        values_by_hash[hashed]
        for hashed in users.values_list(user_field, flat=True)
        if hashed in values_by_hash
    }
    model, column = other_column
    rows = model.objects.filter(**{f"{column}__in": candidates}).values_list(column, flat=True)
    reserved |= {value.casefold() for value in rows}
    return {value for value in candidates if value.casefold() in reserved}


def username_suggestions(username: str) -> list[str]:
    """Free usernames similar to ``username``, as the registration API suggests them."""
    from openedx.core.djangoapps.user_authn.utils import generate_username_suggestions

    return list(generate_username_suggestions(username))


def invited_emails(emails: Iterable[str]) -> set[str]:
    """Those of ``emails``, case-folded, that were invited to a course before they had an account:
    the platform enrolls them when the account is activated."""
    from common.djangoapps.student.models import CourseEnrollmentAllowed

    rows = CourseEnrollmentAllowed.objects.filter(email__in=list(emails))
    return {email.casefold() for email in rows.values_list("email", flat=True)}


def filter_registration(values: dict[str, str]) -> dict[str, str]:
    """Run the filters of ``StudentRegistrationRequested``, as the registration view does; return
    username, email, name and country as the filters leave them. Raises AccountRefused with the
    filter's reason."""
    from django.http import QueryDict
    from openedx_filters.learning.filters import StudentRegistrationRequested

    form = QueryDict(mutable=True)
    form.update(values)
    try:
        filtered_form = StudentRegistrationRequested.run_filter(form_data=form)
    except StudentRegistrationRequested.PreventRegistration as error:
        message = str(error) or "A registration filter of this LMS refuses this account."
        raise AccountRefused(RegistrationError.VALIDATION, {"error_message": message}) from error
    return {key: str(filtered_form.get(key) or "") for key in values}


def new_registration(user: Any) -> Any:
    """A new user's unsaved Registration, filled as by ``register()`` and, if the user is active, by
    ``activate()``."""
    from datetime import datetime

    registration = registration_model()()
    # ``register()`` also saves the row, which the caller does, for several rows at a time.
    registration.save = lambda: None
    registration.register(user)
    del registration.save
    if user.is_active:
        registration.activation_timestamp = datetime.utcnow()  # noqa: DTZ003 - as the platform
    return registration


def account_errors(*, username: str, email: str, name: str, country: str) -> dict[str, str]:
    """Errors of the registration form for these values: the first message by field; {} if valid.

    Password and terms are not validated, because the application has no values for them. Whether
    username and e-mail address are taken is checked elsewhere.
    """
    from django.conf import settings
    from openedx.core.djangoapps.site_configuration import helpers
    from openedx.core.djangoapps.user_authn.views.registration_form import AccountCreationForm

    class Form(AccountCreationForm):
        def clean_email(self) -> str:
            if getattr(settings, "REGISTRATION_EMAIL_PATTERNS_ALLOWED", None) is None:
                # The platform would only check, with three queries, whether the address is taken.
                return self.cleaned_data["email"]
            return super().clean_email()

    extra_fields = helpers.get_value(
        "REGISTRATION_EXTRA_FIELDS", getattr(settings, "REGISTRATION_EXTRA_FIELDS", {})
    )
    # The application has values for no other extra field.
    country_field = {key: value for key, value in extra_fields.items() if key == "country"}
    form = Form(
        data={
            "username": username,
            "email": email,
            "name": name,
            "country": country,
            "password": "not validated here",
        },
        extra_fields=country_field,
        tos_required=False,
    )
    messages_by_field = {field: str(messages[0]) for field, messages in form.errors.items()}
    prefix = getattr(settings, "RETIRED_USERNAME_PREFIX", "")
    if prefix and username.startswith(prefix):
        messages_by_field.setdefault("username", "This username is kept for retired accounts.")
    return messages_by_field


def country_is_known(code: str) -> bool:
    """Whether ``code`` is one of the country codes the registration form accepts."""
    from django_countries import countries

    return code in dict(countries)


def on_account_activated(user: Any) -> None:
    """Send the signal of ``Registration.activate()`` for an account created active."""
    from common.djangoapps.student.models import user as users

    signal = getattr(users, "USER_ACCOUNT_ACTIVATED", None)
    if signal is not None:
        signal.send_robust(registration_model(), user=user)


def on_accounts_created(users: list[Any], registrations: list[Any], site: Any) -> None:
    """Do what the registration view does after a new account is saved and activated: set site and
    language attributes, send the signals and the openedx-event that other apps listen to, create
    the discussion service's user."""
    from common.djangoapps.student.helpers import create_or_set_user_attribute_created_on_site
    from common.djangoapps.student.models import create_comments_service_user
    from django.conf import settings
    from openedx.core.djangoapps.user_authn.views.register import REGISTER_USER
    from openedx_events.learning.data import UserData, UserPersonalData
    from openedx_events.learning.signals import STUDENT_REGISTRATION_COMPLETED

    for user in users:
        create_or_set_user_attribute_created_on_site(user, site)
    _add_language_preferences(users)
    for user, registration in zip(users, registrations, strict=True):
        if settings.FEATURES.get("ENABLE_DISCUSSION_EMAIL_DIGEST"):
            from lms.djangoapps.discussion.notification_prefs.views import enable_notifications

            enable_notifications(user)
        REGISTER_USER.send(sender=None, user=user, registration=registration)
        pii = UserPersonalData(username=user.username, email=user.email, name=user.profile.name)
        STUDENT_REGISTRATION_COMPLETED.send_event(
            user=UserData(pii=pii, id=user.id, is_active=user.is_active)
        )
        create_comments_service_user(user)


def _add_language_preferences(users: list[Any]) -> None:
    """Add the language preferences. The platform's preferences API would check permissions with
    many more statements."""
    from django.conf import settings
    from django.utils.translation import get_language
    from openedx.core.djangoapps.lang_pref import LANGUAGE_KEY
    from openedx.core.djangoapps.user_api.models import UserPreference

    language = get_language() or settings.LANGUAGE_CODE
    present = UserPreference.get_preference_for_users([user.pk for user in users], LANGUAGE_KEY)
    user_ids_with_preference = set(present.values_list("user_id", flat=True))
    rows = [
        UserPreference(user=user, key=LANGUAGE_KEY, value=language)
        for user in users
        if user.pk not in user_ids_with_preference
    ]
    save_new(rows, unique_fields=["user_id", "key"], before_insert=before_inserting_preferences)


def record_identity_verifications(users: list[Any], provider: Any) -> None:
    """Add identity verifications for new accounts, as the sign-in pipeline does at its end when
    ``enable_sso_id_verification`` is on."""
    from lms.djangoapps.verify_student.models import SSOVerification

    rows = [
        SSOVerification(
            user=user,
            status="approved",
            identity_provider_type=provider.full_class_name,
            identity_provider_slug=provider.slug,
            name=user.profile.name,
        )
        for user in users
    ]
    save_new(rows, unique_fields=["user_id"])
    for row in rows:
        row.send_approval_signal(provider.slug)


def delete_recovery_addresses(user: Any) -> None:
    """Delete e-mail addresses that give access to the account: the recovery address, and a new
    address that waits for confirmation."""
    from common.djangoapps.student.models import AccountRecovery, PendingEmailChange

    AccountRecovery.objects.filter(user=user).delete()
    PendingEmailChange.objects.filter(user=user).delete()


def delete_sign_in_cookies(response: Any) -> None:
    """Make the browser delete the platform's JWT and user-info cookies."""
    from openedx.core.djangoapps.user_authn.cookies import delete_logged_in_cookies

    delete_logged_in_cookies(response)


def sign_out(request: Any, response: Any) -> None:
    """End the browser's session, and delete the platform's JWT and user-info cookies."""
    from django.contrib.auth import logout
    from openedx.core.djangoapps.safe_sessions.middleware import mark_user_change_as_expected

    logout(request)
    delete_sign_in_cookies(response)
    nobody = None
    mark_user_change_as_expected(nobody)
