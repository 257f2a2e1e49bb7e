"""Provisions the superuser, the service worker and its token."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.utils import timezone
from oauth2_provider.models import get_access_token_model
from social_django.models import UserSocialAuth

from usher.contract import provisioning as contract
from usher.contract.fingerprints import fingerprint
from usher.lms import conf
from usher.lms.accounts import lookup
from usher.lms.accounts.passwords import random_password_hash
from usher.lms.accounts.services import link_learner
from usher.lms.connections.models import ConnectedApplication, ServiceWorker
from usher.lms.connections.tokens import find_access_token
from usher.lms.errors import ProvisioningError
from usher.lms.provisioning.result import Item, ProvisioningResult, assign

#: Scopes that the platform's APIs require to read and change other users' enrollments.
TOKEN_SCOPE = "read write email profile"  # noqa: S105 - scopes


def provision_superuser(spec: contract.Superuser, outcome: ProvisioningResult) -> None:
    """Create the superuser, and link it to the application of ``spec.backend``, if there is one.

    An existing account that may be another person's is neither linked nor made a superuser; the
    outcome gets a warning instead.
    """
    if reason := _why_not_superuser(spec):
        outcome.items.append(Item("superuser", spec.username, "kept"))
        outcome.warnings.append(reason)
        return
    user, created = get_or_create_user(spec.username, spec.email, spec.password)
    changes = assign(user, {"is_superuser": True, "is_staff": True, "is_active": True})
    user.save()
    if spec.backend:
        link_learner(spec.username, spec.backend)
    outcome.add_item("superuser", spec.username, changes, created=created)


def _why_not_superuser(spec: contract.Superuser) -> str:
    """Why the account must not be made a superuser, as a warning; '' if it may."""
    beginning = f"{spec.username} is not a superuser yet:"
    user = lookup.find_user(spec.username)
    existing_link = lookup.find_link(spec.backend, spec.username) if spec.backend else None
    if user is not None and existing_link is not None and existing_link.user_id == user.pk:
        # The username alone does not show that both are the same person.
        if user.email.casefold() == spec.email.casefold():
            return ""
        return (
            f"{beginning} the LMS account of that name has another e-mail address; check that both "
            "accounts are the same person's, and correct one of the two addresses"
        )
    if user is not None and user.is_superuser and not spec.backend:
        return ""
    if user is not None:
        advice = (
            "link the account (do usher-link)"
            if spec.backend
            else f"make it a superuser: createuser --staff --superuser {spec.username} E-MAIL"
        )
        return (
            f"{beginning} an LMS account of that name already exists; if it is the same person's, "
            f"{advice} and run this again"
        )
    unavailable = lookup.find_taken([spec.username], [spec.email])
    if unavailable.usernames:
        return (
            f"{beginning} this username, perhaps with other case or accents, belongs to another "
            "LMS account or to a retired one; choose another username"
        )
    if unavailable.emails:
        return (
            f"{beginning} another LMS account has the e-mail address {spec.email}; change one of "
            "the two addresses and run this again"
        )
    return ""


def provision_service_worker(
    spec: contract.ServiceWorker,
    application: ConnectedApplication,
    client: Any,
    outcome: ProvisioningResult,
) -> None:
    """Create or update the service worker of ``application``, and its token, which belongs to the
    application's OAuth client ``client``. A service worker of another username that the application
    had before no longer acts for it. Raises ProvisioningError."""
    _refuse_unsuitable_account(spec, application)
    _deactivate_former_workers(spec, application, outcome)
    user, created = get_or_create_user(spec.username, spec.email)
    changes = assign(user, {"is_staff": True, "is_active": True})
    if changes:
        user.save()
    worker, _ = ServiceWorker.objects.get_or_create(user=user, defaults={"made": created})
    if worker.application_id != application.pk:
        worker.application = application
        worker.save()
        changes.append("application")
    outcome.add_item("service worker", spec.username, changes, created=created)
    _provision_token(worker, spec, client, outcome)


def _refuse_unsuitable_account(
    spec: contract.ServiceWorker, application: ConnectedApplication
) -> None:
    """Raises ProvisioningError if the account of that username may be another person's. Such an
    account must not become staff."""
    user = lookup.find_user(spec.username)
    if user is None:
        return
    worker = ServiceWorker.objects.select_related("application").filter(user=user).first()
    if worker is not None and worker.application_id not in (None, application.pk):
        reason = (
            f"is the service worker of application {worker.application}; each application needs "
            "its own"
        )
    elif user.is_superuser:
        reason = "is a superuser, which has more rights than a service worker may have"
    elif UserSocialAuth.objects.filter(user=user).exists():
        reason = "is the account of a learner who signs in with an application"
    elif worker is None and not user.is_staff:
        reason = "already exists and isn't staff, so somebody else may have created it"
    else:
        return
    raise ProvisioningError(
        f"LMS user {spec.username!r} can't be the service worker: it {reason}. Give another "
        "username for the service worker, or correct that account in the LMS's admin"
    )


def _deactivate_former_workers(
    spec: contract.ServiceWorker, application: ConnectedApplication, outcome: ProvisioningResult
) -> None:
    """Detach the application's former service workers, which had other usernames: delete their
    provisioned tokens, and deactivate the accounts that provisioning created."""
    former_workers = ServiceWorker.objects.select_related("user").filter(application=application)
    for worker in former_workers.exclude(user__username=spec.username):
        for row in get_access_token_model().objects.filter(user=worker.user):
            if fingerprint(row.token) == worker.token_fingerprint:
                row.delete()
        worker.application = None
        worker.save()
        changes = ["application"]
        if worker.made:
            changes += assign(worker.user, {"is_active": False, "is_staff": False})
            worker.user.save()
        outcome.add_item("service worker", worker.user.username, changes)


def get_or_create_user(username: str, email: str, password: str = "") -> tuple[Any, bool]:
    """The user of that name with a profile, and whether it was created. An existing user keeps
    their e-mail address and password. password: '' for a random one. Raises ProvisioningError when
    a user must be created and another one has the e-mail address."""
    model = get_user_model()
    user = lookup.find_user(username)
    if user is not None:
        conf.platform().profile_model().objects.get_or_create(
            user=user, defaults={"name": username}
        )
        return user, False
    if model.objects.filter(email__iexact=email).exists():
        raise ProvisioningError(
            f"user {username!r} can't be created: another LMS user has the e-mail address {email}; "
            "give that user's username, or another address"
        )
    user = model(username=username, email=email, is_active=True)
    if password:
        user.set_password(password)
    else:
        # The platform refuses single sign-on to accounts with an unusable password.
        user.password = random_password_hash()
    user.save()
    conf.platform().profile_model().objects.create(user=user, name=username)
    return user, True


def _provision_token(
    worker: ServiceWorker, spec: contract.ServiceWorker, client: Any, outcome: ProvisioningResult
) -> None:
    """Create or update the token, and delete the worker's former one. The expiry is extended when
    less than half of the lifetime is left. Raises ProvisioningError."""
    now = timezone.now()
    lifetime = timedelta(days=spec.token_days)
    token = find_access_token(spec.token)
    created = token is None
    if token is None:
        token = get_access_token_model()(token=spec.token, user=worker.user, expires=now)
    elif token.user_id != worker.user_id and not _is_former_service_worker(token.user_id):
        raise ProvisioningError(
            f"the service worker's token belongs to LMS user {token.user.username!r}; "
            "generate a new token for the service worker"
        )
    values = {"user_id": worker.user_id, "application_id": client.pk, "scope": TOKEN_SCOPE}
    if token.expires - now < lifetime / 2:
        values["expires"] = now + lifetime
    changes = assign(token, values)
    if changes:
        token.save()
    _delete_former_token(worker, spec.token)
    outcome.add_item("service worker's token", spec.username, changes, created=created)


def _is_former_service_worker(user_id: int | None) -> bool:
    """Whether the user is a service worker that no longer acts for any application."""
    former_workers = ServiceWorker.objects.filter(application=None)
    return user_id is not None and former_workers.filter(user_id=user_id).exists()


def _delete_former_token(worker: ServiceWorker, token: str) -> None:
    """Delete the worker's former token, and record the fingerprint of the current one."""
    former_fingerprint, current_fingerprint = worker.token_fingerprint, fingerprint(token)
    if former_fingerprint == current_fingerprint:
        return
    if former_fingerprint:
        for row in get_access_token_model().objects.filter(user=worker.user):
            if fingerprint(row.token) == former_fingerprint:
                row.delete()
    worker.token_fingerprint = current_fingerprint
    worker.save()


def remove_service_worker(
    spec: contract.ServiceWorker, outcome: ProvisioningResult, *, purge: bool
) -> None:
    """Delete the worker's token. A user that provisioning created is deleted with ``purge``, else
    deactivated; a user that existed before is kept as it is."""
    worker = (
        ServiceWorker.objects.select_related("user").filter(user__username=spec.username).first()
    )
    if worker is None:
        return
    token = find_access_token(spec.token)
    if token is not None and token.user_id == worker.user_id:
        token.delete()
        outcome.items.append(Item("service worker's token", spec.username, "removed"))
    user = worker.user
    if not worker.made:
        worker.delete()
        outcome.items.append(Item("service worker", spec.username, "kept"))
    elif purge:
        user.delete()
        outcome.items.append(Item("service worker", spec.username, "removed"))
    else:
        # The row stays: it records that provisioning created the user.
        changes = assign(user, {"is_active": False, "is_staff": False})
        user.save()
        outcome.add_item("service worker", spec.username, changes)
