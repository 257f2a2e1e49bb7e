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
from usher.lms.provisioning.outcome import Item, Outcome, assign
from usher.lms.provisioning.users import get_or_create_user

#: The platform's permission that staff need to retire learners. Superusers have it.
MAY_RETIRE = {"content_type__app_label": "user_api", "codename": "add_userretirementrequest"}


def provision_service_clients(
    wanted: contract.Application, application: ConnectedApplication, outcome: Outcome
) -> None:
    """Create or update one client for each purpose in ``wanted``; remove clients of other purposes.
    Raises ProvisioningError."""
    for one in wanted.service_clients:
        user, user_made = _account(one, application, outcome)
        _client(one, application, user, user_made=user_made, outcome=outcome)
    purposes = [one.purpose for one in wanted.service_clients]
    for former in application.service_clients.exclude(purpose__in=purposes):
        _remove(former, outcome, purge=False)


def remove_service_clients(
    application: ConnectedApplication, outcome: Outcome, *, purge: bool
) -> None:
    """Delete the clients. Accounts that provisioning created for them are deactivated, with
    ``purge`` deleted."""
    for known in application.service_clients.select_related("user"):
        _remove(known, outcome, purge=purge)


def _account(
    wanted: contract.ServiceClient, application: ConnectedApplication, outcome: Outcome
) -> tuple[Any, bool]:
    """The account that the client acts as, and whether it was created for this client alone.

    A client that syncs course runs acts as the service worker, which is staff. The client that
    retires learners could close any account, so it acts as an account of its own with that
    permission only.
    """
    if not wanted.username:
        worker = ServiceWorker.objects.select_related("user").filter(application=application)
        if (found := worker.first()) is None:
            raise ProvisioningError(
                f"{application} has no service worker, so its client for {wanted.purpose} has no "
                "account to act as; give it a service worker"
            )
        return found.user, False
    user = lookup.user_named(wanted.username)
    known = ServiceClient.objects.filter(user=user, user_made=True).first() if user else None
    if user is not None and (known is None or known.application_id not in (None, application.pk)):
        raise ProvisioningError(
            f"LMS user {wanted.username!r} can't be the account for {wanted.purpose}: it exists "
            "and was not created for it. Rename that account in the LMS's admin"
        )
    user, created = get_or_create_user(wanted.username, wanted.email)
    changes = assign(user, {"is_staff": True, "is_active": True})
    if changes:
        user.save()
    if wanted.purpose == contract.RETIREMENT:
        changes += _let_retire(user, outcome)
    outcome.note("service account", wanted.username, changes, created=created)
    return user, True


def _let_retire(user: Any, outcome: Outcome) -> list[str]:
    conf.platform().prepare_retirement()
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


def _client(
    wanted: contract.ServiceClient,
    application: ConnectedApplication,
    user: Any,
    *,
    user_made: bool,
    outcome: Outcome,
) -> None:
    model = get_application_model()
    known = application.service_clients.filter(purpose=wanted.purpose).first()
    ids = [wanted.client_id, *([known.client_id] if known else [])]
    client = model.objects.filter(client_id__in=ids).first()
    created = client is None
    if client is None:
        client = model(client_id=wanted.client_id)
    changes = assign(
        client,
        {
            "client_id": wanted.client_id,
            "name": f"{application.name} {wanted.purpose}",
            "user_id": user.pk,
            "client_type": model.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": model.GRANT_CLIENT_CREDENTIALS,
            "redirect_uris": "",
        },
    )
    if created or not secret_matches(client, wanted.client_secret):
        client.client_secret = stored_secret(wanted.client_secret)
        changes.append("client_secret")
    if changes:
        client.save()
    outcome.note("OAuth client", client.name, changes, created=created)
    ServiceClient.objects.update_or_create(
        application=application,
        purpose=wanted.purpose,
        defaults={"client_id": wanted.client_id, "user": user, "user_made": user_made},
    )


def _remove(known: ServiceClient, outcome: Outcome, *, purge: bool) -> None:
    client = get_application_model().objects.filter(client_id=known.client_id).first()
    if client is not None:
        name = client.name
        client.delete()
        outcome.items.append(Item("OAuth client", name, "removed"))
    user = known.user
    if not known.user_made or user is None:
        known.delete()
    elif purge:
        name = user.get_username()
        user.delete()
        outcome.items.append(Item("service account", name, "removed"))
    else:
        # The row stays: it records that provisioning created the account.
        changes = assign(user, {"is_active": False, "is_staff": False})
        user.save()
        user.user_permissions.clear()
        known.client_id, known.application = "", None
        known.save()
        outcome.note("service account", user.get_username(), changes)
