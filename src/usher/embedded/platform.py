"""What Usher's LMS plugin needs of the platform, given by the embedded LMS.

The same names as ``usher.lms.platform``, which says what each of them promises.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import User
from django.utils.translation import get_language
from django_countries import countries
from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey

from usher.embedded.course_modes.models import CourseMode
from usher.embedded.course_overviews.models import CourseOverview
from usher.embedded.enrollments import errors, services
from usher.embedded.student import events
from usher.embedded.student.models import (
    AccountRecovery,
    CourseEnrollment,
    Registration,
    UserAttribute,
    UserProfile,
)
from usher.embedded.student.services import EnrollmentNotAllowed
from usher.embedded.third_party_auth.models import OAuth2ProviderConfig, oauth_backend_names
from usher.embedded.user_api.models import LANGUAGE_KEY, UserPreference, UserRetirementStatus
from usher.embedded.user_authn import cookies
from usher.embedded.user_authn.forms import AccountCreationForm
from usher.embedded.user_authn.suggestions import suggest_usernames
from usher.embedded.verify_student.models import SSOVerification
from usher.lms.errors import EnrollmentError, EnrollmentRefused

PIPELINE_ANCHOR = "usher.embedded.third_party_auth.pipeline.ensure_user_information"


def provider_model() -> Any:
    return OAuth2ProviderConfig


def profile_model() -> Any:
    return UserProfile


def registration_model() -> Any:
    return Registration


def enrollment_model() -> Any:
    return CourseEnrollment


def course_overview_model() -> Any:
    return CourseOverview


def course_mode_model() -> Any:
    return CourseMode


def throttled_views() -> list[Any]:
    from usher.embedded.course_api import views as courses
    from usher.embedded.enrollments import views as enrollments

    return [
        view
        for module in (courses, enrollments)
        for view in vars(module).values()
        if isinstance(view, type)
        and view.__module__ == module.__name__
        and getattr(view, "throttle_classes", None)
    ]


def forget_provider(site_id: int, backend: str) -> None:
    """Nothing to drop: the embedded LMS keeps no provider record in a cache."""


def release() -> str:
    return "embedded"


def provider_backends() -> list[str]:
    return oauth_backend_names()


def course_key(text: str) -> Any:
    try:
        return CourseKey.from_string(text)
    except InvalidKeyError as error:
        raise ValueError(f"{text!r} is not a course key") from error


def retired_usernames(usernames: Iterable[str]) -> set[str]:
    pending = UserRetirementStatus.objects.filter(original_username__in=list(usernames))
    return set(pending.values_list("original_username", flat=True))


def reserved_emails(emails: Iterable[str]) -> set[str]:
    recovering = AccountRecovery.objects.filter(secondary_email__in=list(emails))
    return set(recovering.values_list("secondary_email", flat=True))


def username_suggestions(username: str) -> list[str]:
    return suggest_usernames(username)


def account_errors(*, username: str, email: str, name: str, country: str) -> dict[str, str]:
    """The registration form's first message by field; password and terms are not asked."""
    extra = {
        field: wanted
        for field, wanted in settings.REGISTRATION_EXTRA_FIELDS.items()
        if field == "country"
    }
    extra |= {"terms_of_service": "hidden", "honor_code": "hidden"}
    values = {"username": username, "email": email, "name": name, "country": country}
    form = AccountCreationForm({**values, "password": "not validated here"}, extra)
    return {field: str(messages[0]) for field, messages in form.errors.items()}


def country_is_known(code: str) -> bool:
    return code in dict(countries)


def on_account_created(user: Any, registration: Any, site: Any) -> None:
    if site.pk != settings.SITE_ID:
        UserAttribute.set_user_attribute(user, "created_on_site", site.domain)
    if UserPreference.get_value(user, LANGUAGE_KEY) is None:
        UserPreference.set_value(user, LANGUAGE_KEY, get_language() or settings.LANGUAGE_CODE)
    events.registration_completed(user)


def record_identity_verification(user: Any, provider: Any) -> None:
    SSOVerification.objects.get_or_create(
        user=user,
        status="approved",
        identity_provider_type=f"{type(provider).__module__}.{type(provider).__name__}",
        identity_provider_slug=provider.slug,
        defaults={"name": user.profile.name},
    )


def forget_browser(response: Any) -> None:
    cookies.delete_logged_in_cookies(response)


def sign_out(request: Any, response: Any) -> None:
    logout(request)
    forget_browser(response)


def set_enrollment(
    request: Any, user: Any, key: Any, *, mode: str | None, is_active: bool, force: bool
) -> tuple[str, bool]:
    try:
        state = _change_enrollment(user, key, mode, is_active, force)
    except EnrollmentNotAllowed as error:
        raise EnrollmentRefused(EnrollmentError.NOT_ALLOWED, str(error)) from error
    except errors.CourseModeNotFoundError as error:
        message = (
            f"The [{mode}] course mode is expired or otherwise unavailable for course run [{key}]."
        )
        raise EnrollmentRefused(EnrollmentError.MODE_UNAVAILABLE, message) from error
    except errors.CourseNotFoundError as error:
        message = f"No course '{key}' found for enrollment"
        raise EnrollmentRefused(EnrollmentError.UNKNOWN_RUN, message) from error
    except errors.CourseEnrollmentExistsError as error:
        state = error.data
    except errors.CourseEnrollmentClosedError as error:
        message = f"Enrollment is closed for course run [{key}]."
        raise EnrollmentRefused(EnrollmentError.CLOSED, message) from error
    except errors.CourseEnrollmentFullError as error:
        message = f"Course run [{key}] is full."
        raise EnrollmentRefused(EnrollmentError.FULL, message) from error
    return state["mode"], state["is_active"]


def _change_enrollment(
    user: User, key: CourseKey, mode: str | None, is_active: bool, force: bool
) -> dict[str, Any]:
    """The choice the public view makes between updating and adding."""
    current = services.get_enrollment(user.username, key)
    if current is None:
        if not is_active:
            message = f"{user.username} is not enrolled in {key}."
            raise EnrollmentRefused(EnrollmentError.NOT_ENROLLED, message)
        mode_changes = active_changes = False
    else:
        mode_changes = mode is not None and current["mode"] != mode
        active_changes = current["is_active"] != is_active
        if mode_changes and active_changes and not is_active:
            message = (
                f"Enrollment mode mismatch: active mode={current['mode']}, "
                f"requested mode={mode}. Won't deactivate."
            )
            raise EnrollmentRefused(EnrollmentError.MODE_MISMATCH, message)
    if mode_changes or active_changes:
        return services.update_enrollment(
            user, key, mode=mode, is_active=is_active, include_expired=force
        )
    return services.add_enrollment(
        user, key, mode=mode, is_active=is_active, force=force, include_expired=force
    )
