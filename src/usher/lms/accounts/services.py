"""Creates, updates and links accounts.

An account has all that the platform's registration creates: user, profile, registration and a
usable random password; the signals that other apps listen to are sent. An account also has the link
through which its learner signs in. Only a new account is linked automatically. An existing account,
whatever its username or e-mail address, may be another person's; only an operator can link it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sites.models import Site
from django.db import IntegrityError, transaction
from social_django.models import UserSocialAuth

from usher.contract.failures import RegistrationError, is_storable
from usher.contract.limits import FULL_NAME_MAX_LENGTH
from usher.lms import conf
from usher.lms.accounts import lookup
from usher.lms.accounts.access_revocation import revoke_all_access, revoke_learner_access
from usher.lms.accounts.passwords import random_password_hash
from usher.lms.bulk import save_new
from usher.lms.errors import AccountRefused, UsherLmsError
from usher.lms.events import outbox
from usher.lms.transactions import run_for_command

#: Text fields of the profile that a registration form may have.
PROFILE_FIELDS = ("level_of_education", "gender", "mailing_address", "city", "country", "goals")


@dataclass(frozen=True)
class Learner:
    """A learner as the application describes them. name: '' when unknown, for an existing account
    only. country: two letters, or '' when unknown.
    reactivate: whether ``is_active`` also activates an account that is inactive in the LMS, where
    staff may have deactivated it."""

    username: str
    email: str
    name: str
    country: str = ""
    is_active: bool = True
    reactivate: bool = False

    def is_active_after(self, was_active: bool) -> bool:
        """Whether the account is to be active, which may depend on whether it is active now."""
        return self.is_active and (was_active or self.reactivate)


def create_account(learner: Learner, backend: str, site: Site) -> Any:
    """Create an account linked to ``backend``; return the user.

    If another request created and linked the same learner's account in the meantime, return that
    account. Raises AccountRefused; then nothing was created.
    """
    _refuse_unstorable(learner)
    learner = apply_filters(learner)
    refuse_taken(learner, lookup.find_taken(usernames=[learner.username], emails=[learner.email]))
    refuse_invalid(learner)
    try:
        with transaction.atomic(), outbox.collecting_changes():
            return insert_account(learner, backend, site)
    except IntegrityError:
        if link := lookup.find_link(backend, learner.username):
            return link.user
        refuse_taken(
            learner, lookup.find_taken(usernames=[learner.username], emails=[learner.email])
        )
        raise


def _refuse_unstorable(learner: Learner) -> None:
    """Raises AccountRefused for texts that no column can store, and that the database can't even
    look up."""
    texts = {"username": learner.username, "email": learner.email, "name": learner.name}
    errors = {
        field: f"The {field} is too long, or has characters that can't be stored."
        for field, text in texts.items()
        if len(text) > FULL_NAME_MAX_LENGTH or not is_storable(text)
    }
    if errors:
        raise AccountRefused(RegistrationError.VALIDATION, errors)


def refuse_taken(learner: Learner, taken: lookup.TakenIdentifiers) -> None:
    """Raises AccountRefused, with the registration API's codes, if username or address is taken."""
    username_taken = learner.username.casefold() in taken.usernames
    email_taken = learner.email.casefold() in taken.emails
    fields = {}
    if email_taken:
        fields["email"] = f"An LMS account with the e-mail address {learner.email} already exists."
    if username_taken:
        fields["username"] = f"An LMS account with the username {learner.username} already exists."
    if not fields:
        return
    #: (whether the e-mail address is taken, whether the username is taken) → code
    codes = {
        (True, True): RegistrationError.DUPLICATE_EMAIL_USERNAME,
        (True, False): RegistrationError.DUPLICATE_EMAIL,
        (False, True): RegistrationError.DUPLICATE_USERNAME,
    }
    suggestions = conf.platform().username_suggestions(learner.username) if username_taken else []
    raise AccountRefused(codes[email_taken, username_taken], fields, suggestions)


def insert_account(
    learner: Learner, backend: str, site: Site, *, invited: bool | None = None
) -> Any:
    """Create an account's rows and send its signals; return the user. Call it inside a transaction,
    after ``apply_filters``, ``refuse_taken`` and ``refuse_invalid``.

    The platform inserts an inactive user and activates it in the same request. Here the user is
    active from the start, which saves two updates. A learner who was invited to a course before
    having an account is an exception: activation enrolls the learner, so the account is created
    inactive and then activated. invited: whether the learner was invited; None: look this up in the
    database.
    """
    platform = conf.platform()
    if invited is None:
        invited = bool(platform.invited_emails([learner.email]))
    starts_active = learner.is_active and not invited
    user: Any = get_user_model()(
        username=learner.username,
        email=learner.email,
        is_active=starts_active,
        password=random_password_hash(),
    )
    user.save()
    registration = platform.new_registration(user)
    registration.save()
    user.profile = platform.profile_model()(user=user, **_profile_values(learner))
    user.profile.save()
    UserSocialAuth.objects.create(user=user, provider=backend, uid=learner.username)
    if starts_active:
        platform.on_account_activated(user)
    elif learner.is_active:
        registration.activate()
        # activate() may have worked on its own copy of the user.
        user.is_active = True
    platform.on_accounts_created([user], [registration], site)
    return user


def insert_accounts(learners: Sequence[Learner], backend: str, site: Site) -> list[Any]:
    """``insert_account`` for many learners who were not invited to courses, with one statement for
    each table. Returns the users in order."""
    platform = conf.platform()
    users: list[Any] = [
        get_user_model()(
            username=learner.username,
            email=learner.email,
            is_active=learner.is_active,
            password=random_password_hash(),
        )
        for learner in learners
    ]
    save_new(
        users,
        unique_fields=["username"],
        before_insert=platform.before_inserting_users,
        after_insert=platform.after_inserting_users,
    )
    registrations = [platform.new_registration(user) for user in users]
    save_new(registrations, unique_fields=["user_id"])
    for user, learner in zip(users, learners, strict=True):
        user.profile = platform.profile_model()(user=user, **_profile_values(learner))
    profiles = [user.profile for user in users]
    save_new(profiles, unique_fields=["user_id"], before_insert=platform.before_inserting_profiles)
    links = [UserSocialAuth(user=user, provider=backend, uid=user.username) for user in users]
    save_new(links, unique_fields=["provider", "uid"])
    for user in users:
        if user.is_active:
            platform.on_account_activated(user)
    platform.on_accounts_created(users, registrations, site)
    return users


def apply_filters(learner: Learner) -> Learner:
    """The learner with the values that the LMS's registration filters return. Raises AccountRefused
    when a filter prevents the registration."""
    form = {
        "username": learner.username,
        "email": learner.email,
        "name": learner.name,
        "country": learner.country,
    }
    values = conf.platform().filter_registration(form)
    if values["username"] != learner.username:
        message = (
            "A registration filter of this LMS changes the username, which has to stay as it is "
            "in the application."
        )
        raise AccountRefused(RegistrationError.VALIDATION, {"username": message})
    return replace(
        learner, email=values["email"], name=values["name"], country=values["country"] or ""
    )


def _profile_values(learner: Learner) -> dict[str, Any]:
    """Values as the registration form saves them: '' for fields that the form has but the
    application does not give."""
    form_fields = getattr(settings, "REGISTRATION_EXTRA_FIELDS", {})
    values: dict[str, Any] = {field: "" for field in PROFILE_FIELDS if field in form_fields}
    values["name"] = learner.name
    if learner.country:
        values["country"] = learner.country
    return values


def refuse_invalid(learner: Learner) -> None:
    """Raises AccountRefused for values that the registration form would not accept."""
    platform = conf.platform()
    if learner.country and not platform.country_is_known(learner.country):
        message = _unknown_country(learner)
        raise AccountRefused(RegistrationError.INVALID_COUNTRY, {"country": message})
    errors = platform.account_errors(
        username=learner.username, email=learner.email, name=learner.name, country=learner.country
    )
    if learner.username != learner.username.strip():
        # The form trims the username, but the account would get it as it is.
        errors["username"] = "The username begins or ends with white space."
    if errors:
        raise AccountRefused(RegistrationError.VALIDATION, errors)


def update_account(user: Any, learner: Learner) -> bool:
    """Update a linked account's e-mail address, name, country and ``is_active`` from ``learner``;
    return whether anything changed. The username never changes. Raises AccountRefused.

    If the learner is inactive, invalid values and a taken address are left out, because a refusal
    would leave the account active."""
    errors = _errors_of_changes(user, learner)
    taken = _find_taken_address(user, learner)
    if learner.is_active:
        refuse_taken(learner, taken)
        if errors:
            is_country = set(errors) == {"country"}
            code = RegistrationError.INVALID_COUNTRY if is_country else RegistrationError.VALIDATION
            raise AccountRefused(code, errors)
    else:
        left_out: dict[str, Any] = dict.fromkeys(errors, "")
        if learner.email.casefold() in taken.emails:
            left_out["email"] = ""
        learner = replace(learner, **left_out)
    fields = []
    if learner.email and user.email != learner.email:
        user.email = learner.email
        fields.append("email")
    is_active = learner.is_active_after(user.is_active)
    if user.is_active != is_active:
        user.is_active = is_active
        fields.append("is_active")
    if fields:
        user.save(update_fields=fields)
    return _update_profile(user, learner) or bool(fields)


def _find_taken_address(user: Any, learner: Learner) -> lookup.TakenIdentifiers:
    """The learner's new address, if it is taken. The username does not change, so it need not be
    free."""
    emails = [learner.email] if _address_differs(user, learner) else []
    return lookup.find_taken(usernames=[], emails=emails, except_user=user)


def _address_differs(user: Any, learner: Learner) -> bool:
    """Whether the learner has another address, and not only the same in another case."""
    if not learner.email or user.email == learner.email:
        return False
    # Addresses with other characters are compared exactly: casefold() takes ``ß`` for ``ss``.
    is_ascii = user.email.isascii() and learner.email.isascii()
    return not is_ascii or user.email.casefold() != learner.email.casefold()


def _errors_of_changes(user: Any, learner: Learner) -> dict[str, str]:
    """Field → error, for the new values that the registration form would not accept. Values that
    the account has already are not checked."""
    platform = conf.platform()
    changed = set(_profile_changes(user.profile, learner))
    if _address_differs(user, learner):
        changed.add("email")
    if not changed:
        return {}
    errors = platform.account_errors(
        username=user.username,
        email=learner.email,
        name=learner.name or user.username,
        country=learner.country,
    )
    if learner.country and not platform.country_is_known(learner.country):
        errors["country"] = _unknown_country(learner)
    return {field: message for field, message in errors.items() if field in changed}


def _unknown_country(learner: Learner) -> str:
    return f"{learner.country!r} is not a country code."


def account_differs(user: Any, learner: Learner) -> bool:
    """Whether ``update_account`` would change anything. user: with the profile loaded, or with an
    unsaved profile if there is none."""
    return (
        (bool(learner.email) and user.email != learner.email)
        or user.is_active != learner.is_active_after(user.is_active)
        or user.profile.pk is None
        or bool(_profile_changes(user.profile, learner))
    )


def _profile_changes(profile: Any, learner: Learner) -> dict[str, str]:
    """The fields that differ, with the learner's values. A value that the application does not give
    is no change."""
    new_values = {"name": learner.name, "country": learner.country}
    return {
        field: value
        for field, value in new_values.items()
        if value and str(getattr(profile, field) or "") != value
    }


def _update_profile(user: Any, learner: Learner) -> bool:
    """Update or create the user's profile; return whether anything changed."""
    model = conf.platform().profile_model()
    profile = model.objects.filter(user=user).first()
    if profile is None:
        name = learner.name or learner.username
        model.objects.create(user=user, name=name, country=learner.country)
        return True
    changes = _profile_changes(profile, learner)
    for field, value in changes.items():
        setattr(profile, field, value)
    if changes:
        profile.save()
    return bool(changes)


def link_learner(username: str, backend: str, *, move: bool = False) -> bool:
    """Link the application's learner ``username`` to the existing LMS account with that username;
    return whether the link is new. An operator decides this. Raises UsherLmsError.

    Everybody who had access to the account loses it: see ``accounts.access_revocation``.
    move: remove the learner's link to a different account first.
    """
    # Repeated if another link of the learner was created since it was looked up.
    return run_for_command(lambda: _link_learner(username, backend, move=move))


def _link_learner(username: str, backend: str, *, move: bool) -> bool:
    """``link_learner``, to be called inside a transaction."""
    user = lookup.find_user(username)
    if user is None:
        raise UsherLmsError(f"there is no LMS user {username!r}")
    existing = lookup.find_link(backend, username)
    if existing is not None and existing.user_id == user.pk:
        return False
    if existing is not None and not move:
        raise UsherLmsError(
            f"{username!r} of {backend} is linked to LMS user {existing.user.username!r}; "
            "if that is wrong, give --move to replace that link"
        )
    if existing is None:
        _refuse_uid_of_other_learner(username, backend)
    _refuse_account_of_other_learner(user, username, backend)
    if existing is not None:
        revoke_learner_access(existing)
    revoke_all_access(user)
    # An account created by `createsuperuser` has no profile, which sign-in needs.
    profiles = conf.platform().profile_model().objects
    profiles.get_or_create(user=user, defaults={"name": username})
    UserSocialAuth.objects.create(user=user, provider=backend, uid=username)
    return True


def _refuse_uid_of_other_learner(username: str, backend: str) -> None:
    """Raises UsherLmsError if another learner is linked whose name the database considers equal: it
    refuses a second link. MySQL and MariaDB ignore case and accents."""
    other = UserSocialAuth.objects.filter(provider=backend, uid=username).first()
    if other is not None and other.uid != username:
        raise UsherLmsError(
            f"{username!r} of {backend} can't be linked: the learner {other.uid!r} is linked to "
            f"LMS user {other.user.get_username()!r}, and this LMS's database takes both names for "
            "the same; rename one of the two learners in the application"
        )


def _refuse_account_of_other_learner(user: Any, username: str, backend: str) -> None:
    """Raises UsherLmsError if a learner of this application other than ``username`` signs in to the
    account: that learner would keep the access."""
    links = UserSocialAuth.objects.filter(provider=backend, user=user)
    other = next((link for link in links if link.uid != username), None)
    if other is not None:
        account = user.get_username()
        raise UsherLmsError(
            f"LMS user {account!r} is linked to the learner {other.uid!r} of {backend}, who would "
            f"keep the access; if that is wrong, first remove that link: --unlink --username "
            f"{other.uid} --account {account}"
        )


def unlink_learner(username: str, backend: str, *, account: str = "") -> bool:
    """Unlink the application's learner ``username`` from their LMS account; return whether they
    were linked. The account stays; its sessions and the application's tokens for it end.

    account: username of the linked LMS account, if it differs from the learner's. The argument
    guards against unlinking an account that the operator didn't mean. Raises UsherLmsError.
    """
    return run_for_command(lambda: _unlink_learner(username, backend, account or username))


def _unlink_learner(username: str, backend: str, account: str) -> bool:
    """``unlink_learner``, to be called inside a transaction."""
    existing = lookup.find_link(backend, username)
    if existing is None:
        _refuse_other_learners_link(username, backend, account)
        return False
    current_username = existing.user.get_username()
    if current_username != account:
        raise UsherLmsError(
            f"the learner {username!r} of {backend} is linked to LMS user {current_username!r}, "
            f"not to {account!r}; to remove that link, give --account {current_username}"
        )
    revoke_learner_access(existing)
    return True


def _refuse_other_learners_link(username: str, backend: str, account: str) -> None:
    """Raises UsherLmsError when another learner is linked to ``account``."""
    links = UserSocialAuth.objects.filter(provider=backend, user__username=account)
    if other := links.values_list("uid", flat=True).first():
        raise UsherLmsError(
            f"the learner {username!r} of {backend} is not linked; LMS user {account!r} is linked "
            f"to the learner {other!r}: to remove that link, give --username {other} "
            f"--account {account}"
        )
