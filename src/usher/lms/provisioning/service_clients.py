"""Provisions an application's OAuth clients with the grant *client credentials*."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Permission
from oauth2_provider.models import get_application_model

from usher.contract import provisioning as contract
from usher.lms import conf
from usher.lms.accounts import lookup
from usher.lms.connections.models import ConnectedApplication, ServiceClient, ServiceWorker
from usher.lms.errors import ProvisioningError
from usher.lms.provisioning.clients import secret_matches, stored_secret
from usher.lms.provisioning.result import Item, ProvisioningResult, assign
from usher.lms.provisioning.users import get_or_create_user

#: The platform's permission that staff need to retire learners. Superusers have it.
MAY_RETIRE = {"content_type__app_label": "user_api", "codename": "add_userretirementrequest"}


def provision_service_clients(
    spec: contract.Application, application: ConnectedApplication, outcome: ProvisioningResult
) -> None:
    """Create or update one client for each purpose in ``spec``; remove clients of other purposes.
    Raises ProvisioningError."""
    for client in spec.service_clients:
        user, user_made = _provision_account(client, application, outcome)
        _provision_client(client, application, user, user_made=user_made, outcome=outcome)
    purposes = [client.purpose for client in spec.service_clients]
    for former in application.service_clients.exclude(purpose__in=purposes):
        _remove_client(former, outcome, purge=False)


def remove_service_clients(
    application: ConnectedApplication, outcome: ProvisioningResult, *, purge: bool
) -> None:
    """Delete the clients. Accounts that provisioning created for these clients are deactivated, or
    deleted with ``purge``."""
    for client in application.service_clients.select_related("user"):
        _remove_client(client, outcome, purge=purge)


def _provision_account(
    spec: contract.ServiceClient, application: ConnectedApplication, outcome: ProvisioningResult
) -> tuple[Any, bool]:
    """The account that the client acts as, and whether it was created for this client alone. If
    ``spec`` names a separate account, creates or updates it. Raises ProvisioningError.

    A client that syncs course runs acts as the service worker, which is staff. The client that
    retires learners could close any account, so it acts as a separate staff account whose only
    permission is to retire learners.
    """
    if not spec.username:
        workers = ServiceWorker.objects.select_related("user").filter(application=application)
        if (service_worker := workers.first()) is None:
            raise ProvisioningError(
                f"{application} has no service worker, so its client for {spec.purpose} has no "
                "account to act as; give it a service worker"
            )
        return service_worker.user, False
    user = lookup.find_user(spec.username)
    existing_client = (
        ServiceClient.objects.filter(user=user, user_made=True).first() if user else None
    )
    if user is not None and (
        existing_client is None or existing_client.application_id not in (None, application.pk)
    ):
        raise ProvisioningError(
            f"LMS user {spec.username!r} can't be the account for {spec.purpose}: it exists "
            "already and was not created for this purpose. Rename that account in the LMS's admin"
        )
    user, created = get_or_create_user(spec.username, spec.email)
    changes = assign(user, {"is_staff": True, "is_active": True})
    if changes:
        user.save()
    if spec.purpose == contract.RETIREMENT:
        changes += _permit_retirement(user, outcome)
    outcome.add_item("service account", spec.username, changes, created=created)
    return user, True


def _permit_retirement(user: Any, outcome: ProvisioningResult) -> list[str]:
    """Give the user the permission to retire learners, and create the states that retirement needs.
    Return the names of the changed fields."""
    conf.platform().create_retirement_states()
    permission = Permission.objects.filter(**MAY_RETIRE).first()
    if permission is None:
        outcome.warnings.append(
            "this LMS has no permission user_api.add_userretirementrequest, so only a superuser "
            f"can retire learners: {user.get_username()} can't"
        )
        return []
    if user.user_permissions.filter(pk=permission.pk).exists():
        return []
    user.user_permissions.add(permission)
    return ["permissions"]


def _provision_client(
    spec: contract.ServiceClient,
    application: ConnectedApplication,
    user: Any,
    *,
    user_made: bool,
    outcome: ProvisioningResult,
) -> None:
    """Create or update the OAuth client and its ServiceClient. user_made: whether the account
    ``user`` was created for this client alone."""
    model = get_application_model()
    existing = application.service_clients.filter(purpose=spec.purpose).first()
    ids = [spec.client_id, *([existing.client_id] if existing else [])]
    client = model.objects.filter(client_id__in=ids).first()
    created = client is None
    if client is None:
        client = model(client_id=spec.client_id)
    changes = assign(
        client,
        {
            "client_id": spec.client_id,
            "name": f"{application.name} {spec.purpose}",
            "user_id": user.pk,
            "client_type": model.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": model.GRANT_CLIENT_CREDENTIALS,
            "redirect_uris": "",
        },
    )
    if created or not secret_matches(client, spec.client_secret):
        client.client_secret = stored_secret(spec.client_secret)
        changes.append("client_secret")
    if changes:
        client.save()
    outcome.add_item("OAuth client", client.name, changes, created=created)
    ServiceClient.objects.update_or_create(
        application=application,
        purpose=spec.purpose,
        defaults={"client_id": spec.client_id, "user": user, "user_made": user_made},
    )


def _remove_client(row: ServiceClient, outcome: ProvisioningResult, *, purge: bool) -> None:
    """Delete the client. Deactivate the account that was created for this client alone, or delete
    it with ``purge``."""
    client = get_application_model().objects.filter(client_id=row.client_id).first()
    if client is not None:
        name = client.name
        client.delete()
        outcome.items.append(Item("OAuth client", name, "removed"))
    user = row.user
    if not row.user_made or user is None:
        row.delete()
    elif purge:
        name = user.get_username()
        user.delete()
        outcome.items.append(Item("service account", name, "removed"))
    else:
        # The row stays: it records that provisioning created the account.
        changes = assign(user, {"is_active": False, "is_staff": False})
        user.save()
        user.user_permissions.clear()  # the permission to retire learners
        row.client_id, row.application = "", None
        row.save()
        outcome.add_item("service account", user.get_username(), changes)
