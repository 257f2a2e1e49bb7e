"""Adapter for the embedded LMS, with the functions of ``usher.lms.platform``, where they are
explained."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from django.db.models.functions import Lower

from usher.contract.failures import RegistrationError
from usher.lms.bulk import save_new
from usher.lms.enrollments import (
    NewEnrollment,
    State,
    Step,
    compute_once,
    next_step,
    raising_refusals,
)
from usher.lms.errors import AccountRefused, EnrollmentError, EnrollmentRefused

#: The pipeline step before which an unknown learner's account must exist.
PIPELINE_ANCHOR = "usher.embedded.third_party_auth.pipeline.ensure_user_information"


# --- models ----------------------------------------------------------------------------------


def provider_model() -> Any:
    from usher.embedded.third_party_auth.models import OAuth2ProviderConfig

    return OAuth2ProviderConfig


def profile_model() -> Any:
    from usher.embedded.student.models import UserProfile

    return UserProfile


def registration_model() -> Any:
    from usher.embedded.student.models import Registration

    return Registration


def enrollment_model() -> Any:
    from usher.embedded.student.models import CourseEnrollment

    return CourseEnrollment


def course_overview_model() -> Any:
    from usher.embedded.course_overviews.models import CourseOverview

    return CourseOverview


def course_mode_model() -> Any:
    from usher.embedded.course_modes.models import CourseMode

    return CourseMode


def forum_role_links() -> Any:
    """The table that links forum roles and users; None without ``platform_load``."""
    from django.apps import apps

    if not apps.is_installed("usher.embedded.platform_load"):
        return None
    from usher.embedded.platform_load.models import ForumRole

    return ForumRole.users.through


def throttled_views() -> list[Any]:
    """The API views that have rate limits."""
    from usher.embedded.bulk_enroll import views as bulk_enroll
    from usher.embedded.course_api import views as courses
    from usher.embedded.enrollments import views as enrollments

    return [
        view
        for module in (courses, enrollments, bulk_enroll)
        for view in vars(module).values()
        if isinstance(view, type)
        and view.__module__ == module.__name__
        and getattr(view, "throttle_classes", None)
    ]


def delete_cached_provider(site_id: int, backend: str) -> None:
    """Delete the provider record from the request cache, the only cache of records in this LMS."""
    from edx_django_utils.cache import TieredCache

    TieredCache.delete_all_tiers(provider_model().cache_key_name(site_id, backend))


# --- facts about this LMS --------------------------------------------------------------------


def release() -> str:
    return "embedded"


def provider_backends() -> list[str]:
    from usher.embedded.third_party_auth.models import oauth_backend_names

    return oauth_backend_names()


def course_key(text: str) -> Any:
    from opaque_keys import InvalidKeyError
    from opaque_keys.edx.keys import CourseKey

    try:
        return CourseKey.from_string(text)
    except InvalidKeyError as error:
        raise ValueError(f"{text!r} is not a course key") from error


# --- accounts --------------------------------------------------------------------------------


def retired_usernames(usernames: Iterable[str]) -> set[str]:
    from usher.embedded.user_api.models import UserRetirementStatus

    # The platform ignores case: it hashes names in lower case.
    names = {username.lower() for username in usernames}
    statuses = UserRetirementStatus.objects.alias(lowered=Lower("original_username"))
    return set(statuses.filter(lowered__in=names).values_list("original_username", flat=True))


def create_retirement_states() -> None:
    from usher.embedded.user_api.models import RetirementState
    from usher.embedded.user_api.retirement import populate_states

    if not RetirementState.objects.exists():
        populate_states()


def reserved_emails(emails: Iterable[str]) -> set[str]:
    """Those of ``emails`` that were retired, or are the recovery address of an account; as stored,
    which may differ in case."""
    from usher.embedded.student.models import AccountRecovery
    from usher.embedded.user_api.models import UserRetirementStatus

    addresses = list(emails)
    lowered = {address.lower() for address in addresses}
    retired = UserRetirementStatus.objects.alias(lowered=Lower("original_email"))
    retired = retired.filter(lowered__in=lowered)
    recovering = AccountRecovery.objects.filter(secondary_email__in=addresses)
    return set(retired.values_list("original_email", flat=True)) | set(
        recovering.values_list("secondary_email", flat=True)
    )


def username_suggestions(username: str) -> list[str]:
    from usher.embedded.user_authn.suggestions import suggest_usernames

    return suggest_usernames(username)


def account_errors(*, username: str, email: str, name: str, country: str) -> dict[str, str]:
    """Field → first error of the registration form for these values; {} if they are valid."""
    from django.conf import settings

    from usher.embedded.user_authn.forms import AccountCreationForm

    class Form(AccountCreationForm):
        def clean_email(self) -> str:
            if settings.REGISTRATION_EMAIL_PATTERNS_ALLOWED is None:
                # The base class would only check, with two queries, whether the address is taken.
                return str(self.cleaned_data["email"])
            return super().clean_email()

    # The application has values for no other field of REGISTRATION_EXTRA_FIELDS.
    extra_fields = {"terms_of_service": "hidden", "honor_code": "hidden"}
    if "country" in settings.REGISTRATION_EXTRA_FIELDS:
        extra_fields["country"] = settings.REGISTRATION_EXTRA_FIELDS["country"]
    values = {"username": username, "email": email, "name": name, "country": country}
    form = Form({**values, "password": "not validated here"}, extra_fields)
    return {field: str(messages[0]) for field, messages in form.errors.items()}


def invited_emails(emails: Iterable[str]) -> set[str]:
    """Those of ``emails``, case-folded, that were invited to a run."""
    from usher.embedded.student.models import CourseEnrollmentAllowed

    rows = CourseEnrollmentAllowed.objects.filter(email__in=list(emails))
    return {email.casefold() for email in rows.values_list("email", flat=True)}


def filter_registration(values: dict[str, str]) -> dict[str, str]:
    """``values`` as the LMS's filters of registrations leave them. Raises AccountRefused."""
    from usher.embedded.user_authn.filters import PreventRegistration, run_filters

    try:
        filtered = run_filters(dict(values))
    except PreventRegistration as error:
        raise AccountRefused(RegistrationError.VALIDATION, {"error_message": str(error)}) from error
    return {key: str(filtered.get(key) or "") for key in values}


def new_registration(user: Any) -> Any:
    """The unsaved registration of a new user, activated if the user is active."""
    from django.utils import timezone

    registration = registration_model()()
    # ``register`` saves the record, but the caller inserts many at once.
    registration.save = lambda: None
    registration.register(user)
    del registration.save
    if user.is_active:
        registration.activation_timestamp = timezone.now()
    return registration


def before_inserting_users(users: Sequence[Any]) -> list[Any]:
    return _receivers_reading_saved_rows()


def before_inserting_profiles(profiles: Sequence[Any]) -> list[Any]:
    return _receivers_reading_saved_rows()


def _receivers_reading_saved_rows() -> list[Any]:
    """The receiver that reads the saved row before each save. Bulk inserts skip it, since new rows
    have no saved row."""
    if not _has_platform_load():
        return []
    from usher.embedded.platform_load import receivers

    return [receivers.compare_with_saved]


def _has_platform_load() -> bool:
    from django.apps import apps

    return apps.is_installed("usher.embedded.platform_load")


def after_inserting_users(users: Sequence[Any]) -> list[Any]:
    """Do the work of the ``post_save`` receiver for all new users. Returns this receiver, which the
    caller must not call for each user."""
    if not _has_platform_load():
        return []
    from usher.embedded.platform_load import receivers

    receivers.add_preferences_of(users)
    return [receivers.add_preferences]


def on_account_activated(user: Any) -> None:
    """Does nothing: no receiver listens to activations here."""


def country_is_known(code: str) -> bool:
    from django_countries import countries

    return code in dict(countries)


def on_accounts_created(users: list[Any], registrations: list[Any], site: Any) -> None:
    from usher.embedded.user_authn.registration import announce

    announce(users, site)


def record_identity_verifications(users: list[Any], provider: Any) -> None:
    from usher.embedded.verify_student.models import SSOVerification

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


def delete_recovery_addresses(user: Any) -> None:
    """Delete e-mail addresses that give access to the account: the recovery address, and a new
    address that waits for confirmation."""
    from usher.embedded.student.models import AccountRecovery, PendingEmailChange

    AccountRecovery.objects.filter(user=user).delete()
    PendingEmailChange.objects.filter(user=user).delete()


def delete_sign_in_cookies(response: Any) -> None:
    from usher.embedded.user_authn.cookies import delete_logged_in_cookies

    delete_logged_in_cookies(response)


def sign_out(request: Any, response: Any) -> None:
    from django.contrib.auth import logout

    logout(request)
    delete_sign_in_cookies(response)


# --- enrollments -----------------------------------------------------------------------------


def set_enrollment(
    request: Any,
    user: Any,
    key: Any,
    *,
    mode: str | None,
    is_active: bool,
    force: bool,
    current_state: State | None,
    cache: dict[Any, Any],
) -> State:
    """As ``usher.lms.platform_enrollments.set_enrollment``: new enrollments get the requested mode
    directly. (The public API enrolls in the default mode first.)"""
    from usher.embedded.student import services as student
    from usher.embedded.student.models import CourseEnrollment

    with raising_refusals(_error_codes(), key, mode):
        enrollment: Any = None
        if current_state is not None:
            # Read again: the row is needed, and may have changed since the batch read it.
            enrollment = CourseEnrollment.get_enrollment(user, key)
            current_state = (enrollment.mode, enrollment.is_active) if enrollment else None
        step = next_step(
            current_state, mode=mode, is_active=is_active, username=user.username, key=key
        )
        # The first condition is for mypy: without an enrollment the step is ADD.
        if current_state is not None and step is Step.NOTHING:
            return current_state
        if step is Step.ADD and mode is None:
            mode = _default_mode(cache, key)
        if mode is not None:
            _require_mode(cache, key, mode, is_active=is_active, force=force)
        if step is Step.ADD:
            try:
                enrollment = student.enroll(
                    user, key, mode=mode, check_access=True, can_upgrade=force
                )
            except student.AlreadyEnrolledError:
                # Another request has enrolled the learner since this batch read the database.
                enrollment = CourseEnrollment.get_enrollment(user, key)
        enrollment.update_enrollment(mode=mode, is_active=is_active)
    return enrollment.mode, enrollment.is_active


def _default_mode(cache: dict[Any, Any], key: Any) -> str:
    """The mode of an enrollment whose request names no mode, computed once for each run."""
    from usher.embedded.student import services as student

    mode: str = compute_once(cache, ("default", key), lambda: student.default_mode(key))
    return mode


def _require_mode(
    cache: dict[Any, Any], key: Any, mode: str, *, is_active: bool, force: bool
) -> None:
    """Check, once for each run and mode, that the run offers the mode. force: also accept an
    expired mode. Raises the errors of ``enrollments.services.require_mode``."""
    from usher.embedded.enrollments import services

    compute_once(
        cache,
        ("mode", key, mode, is_active, force),
        lambda: services.require_mode(key, mode, is_active, include_expired=force),
    )


def _error_codes() -> dict[type[Exception], EnrollmentError]:
    """Exception of this LMS → the error code that reports it."""
    from usher.embedded.enrollments import errors
    from usher.embedded.student import services as student

    return {
        errors.CourseModeNotFoundError: EnrollmentError.MODE_UNAVAILABLE,
        errors.CourseNotFoundError: EnrollmentError.UNKNOWN_RUN,
        student.NonExistentCourseError: EnrollmentError.UNKNOWN_RUN,
        student.EnrollmentClosedError: EnrollmentError.CLOSED,
        student.CourseFullError: EnrollmentError.FULL,
        student.CourseEnrollmentException: EnrollmentError.INVALID,
    }


def add_enrollments(
    request: Any, new_enrollments: Sequence[NewEnrollment], cache: dict[Any, Any]
) -> list[State | EnrollmentRefused | None]:
    """As ``usher.lms.platform_enrollments.add_enrollments``: insert all rows with one statement,
    and send the signals of each. The result is None for learners whom the caller has to enroll
    with ``set_enrollment``."""
    from usher.embedded.student import services as student
    from usher.embedded.student.models import CourseEnrollmentAllowed

    outcomes: list[State | EnrollmentRefused | None] = [None] * len(new_enrollments)
    runs_with_invitations = set(
        CourseEnrollmentAllowed.objects.filter(
            email__in={enrollment.user.email for enrollment in new_enrollments}
        ).values_list("course_id", flat=True)
    )
    #: Index in ``new_enrollments`` → unsaved row, and its mode.
    unsaved_rows: dict[int, tuple[Any, str]] = {}
    for index, enrollment in enumerate(new_enrollments):
        run = compute_once(
            cache,
            ("run", enrollment.key),
            partial(course_overview_model().objects.get, id=enrollment.key),
        )
        if (
            enrollment.key in runs_with_invitations
            or run.max_student_enrollments_allowed is not None
        ):
            # ``set_enrollment`` also uses up the invitation, or counts the places taken.
            continue
        try:
            unsaved_rows[index] = _new_enrollment(enrollment, run, cache)
        except EnrollmentRefused as refusal:
            outcomes[index] = refusal
    rows = student.enroll_all([*unsaved_rows.values()])
    for index, row in zip(unsaved_rows, rows, strict=True):
        outcomes[index] = (row.mode, row.is_active)
    return outcomes


def _new_enrollment(
    new_enrollment: NewEnrollment, run: Any, cache: dict[Any, Any]
) -> tuple[Any, str]:
    """The unsaved row of an enrollment that ``student.enroll_all`` may insert, and its mode. Raises
    EnrollmentRefused."""
    from usher.embedded.student import services as student
    from usher.embedded.student.models import CourseEnrollment

    key, mode = new_enrollment.key, new_enrollment.mode
    with raising_refusals(_error_codes(), key, mode):
        mode = mode or _default_mode(cache, key)
        _require_mode(cache, key, mode, is_active=True, force=new_enrollment.force)
        if not new_enrollment.force and not student.may_enroll(new_enrollment.user, run):
            raise student.EnrollmentClosedError(str(key))
    return CourseEnrollment(user=new_enrollment.user, course=run, is_active=False), mode
