"""Provisions the application's OAuth client in the LMS, and the LMS's own login service."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password, identify_hasher
from oauth2_provider.models import get_application_model

from usher.contract.oauth import EDX_OAUTH_APP
from usher.contract.provisioning import Application
from usher.lms import conf
from usher.lms.accounts.passwords import hash_random_secret, random_password_hash
from usher.lms.connections.models import ConnectedApplication
from usher.lms.provisioning.result import Item, ProvisioningResult, assign

#: The name of the LMS's own sign-in client in the result.
LOGIN_SERVICE = "login-service"


def provision_client(spec: Application, outcome: ProvisioningResult) -> tuple[Any, bool]:
    """Create or update the client. Returns the client, and whether it is adopted, see
    ``_find_client``."""
    model = get_application_model()
    client, adopted = _find_client(spec)
    created = client is None
    if client is None:
        client = model(client_id=spec.oauth_client_id, redirect_uris="")
    changes = assign(
        client,
        {
            "client_id": spec.oauth_client_id,
            "client_type": model.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": model.GRANT_AUTHORIZATION_CODE,
            "skip_authorization": True,
            "redirect_uris": _redirect_uris(client, spec, keep_others=adopted),
            "name": client.name or spec.oauth_name,
        },
    )
    if created or not secret_matches(client, spec.oauth_client_secret):
        client.client_secret = stored_secret(spec.oauth_client_secret)
        changes.append("client_secret")
    if changes:
        client.save()
    if adopted and changes:
        outcome.items.append(Item("OAuth client", client.name, "adopted", changes))
    else:
        outcome.add_item("OAuth client", client.name, changes, created=created)
    return client, adopted


def _find_client(spec: Application) -> tuple[Any | None, bool]:
    """The existing client to use, or None; and whether the client is adopted, which means that it
    existed before provisioning. In this order: the client with the id in ``spec``, the client
    provisioned before, a client with the name in ``spec``, a client named EDX_OAUTH_APP that has
    one of the application's redirect URIs."""
    model = get_application_model()
    connected = ConnectedApplication.objects.filter(name=spec.name).first()
    ids = [spec.oauth_client_id, *([connected.oauth_client_id] if connected else [])]
    for client_id in ids:
        if client := model.objects.filter(client_id=client_id).first():
            return client, connected.oauth_client_adopted if connected else True
    other_clients = ConnectedApplication.objects.exclude(name=spec.name).values("oauth_client_id")
    free_clients = model.objects.exclude(client_id__in=other_clients)
    if client := free_clients.filter(name=spec.oauth_name).order_by("pk").first():
        return client, True
    for client in free_clients.filter(name=EDX_OAUTH_APP).order_by("pk"):
        if set(client.redirect_uris.split()) & set(spec.oauth_redirect_uris):
            return client, True
    return None, False


def _redirect_uris(client: Any, spec: Application, *, keep_others: bool) -> str:
    """The redirect URIs, one a line; unchanged if only their order differs. keep_others: keep the
    client's other redirect URIs, because other applications may use an adopted client."""
    present = client.redirect_uris.split()
    uris = list(dict.fromkeys([*spec.oauth_redirect_uris, *(present if keep_others else [])]))
    return client.redirect_uris if set(uris) == set(present) else "\n".join(uris)


def stored_secret(secret: str) -> str:
    """The value to store for ``secret`` in this release of the OAuth toolkit: the secret itself, or
    in newer releases a hash. Newer releases compute the hash at each token request. Their default
    hash is as slow as a password's; the hash returned here is fast."""
    field = get_application_model()._meta.get_field("client_secret")
    return hash_random_secret(secret) if type(field).__name__ == "ClientSecretField" else secret


def secret_matches(client: Any, secret: str) -> bool:
    """Whether ``secret`` is the client's. Releases of the toolkit from 2.0 on store a hash of the
    secret, older ones the secret itself."""
    try:
        identify_hasher(client.client_secret)
    except ValueError:
        return bool(client.client_secret == secret)
    return check_password(secret, client.client_secret)


def login_service_id() -> str:
    """The client id for which the LMS issues its JWT cookies."""
    return settings.JWT_AUTH.get("JWT_LOGIN_CLIENT_ID", "login-service-client-id")


def provision_login_service(outcome: ProvisioningResult) -> None:
    """Create the OAuth client of the LMS's own sign-in if the client is missing. Without this
    client every sign-in fails with status 500. The platform's migrations normally create it."""
    model = get_application_model()
    created = not model.objects.filter(client_id=login_service_id()).exists()
    if created:
        user = _login_service_user()
        model.objects.create(
            client_id=login_service_id(),
            name="Login Service for JWT Cookies",
            user=user,
            client_type=model.CLIENT_PUBLIC,
            authorization_grant_type=model.GRANT_PASSWORD,
            redirect_uris="",
        )
    outcome.add_item("OAuth client", LOGIN_SERVICE, changes=[], created=created)


def _login_service_user() -> Any:
    """The user of the LMS's own sign-in client, created if it is missing."""
    name = settings.JWT_AUTH.get("JWT_LOGIN_SERVICE_USERNAME", "login_service_user")
    user, created = get_user_model().objects.get_or_create(
        username=name, defaults={"password": random_password_hash()}
    )
    if created:
        conf.platform().profile_model().objects.get_or_create(user=user, defaults={"name": name})
    return user


def remove_client(connected: ConnectedApplication, outcome: ProvisioningResult) -> None:
    """Delete the application's client, unless the client was adopted."""
    client = get_application_model().objects.filter(client_id=connected.oauth_client_id).first()
    if client is None:
        return
    if connected.oauth_client_adopted:
        outcome.items.append(Item("OAuth client", client.name, "kept"))
        return
    name = client.name
    client.delete()
    outcome.items.append(Item("OAuth client", name, "removed"))
