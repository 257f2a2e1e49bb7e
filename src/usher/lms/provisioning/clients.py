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
from usher.lms.accounts.passwords import hash_of_random, random_password_hash
from usher.lms.connections.models import ConnectedApplication
from usher.lms.provisioning.outcome import Item, Outcome, assign

LOGIN_SERVICE = "login-service"


def provision_client(wanted: Application, outcome: Outcome) -> tuple[Any, bool]:
    """Create or update the client. Returns it, and whether it existed before (adopted)."""
    model = get_application_model()
    client, adopted = _find(wanted)
    created = client is None
    if client is None:
        client = model(client_id=wanted.oauth_client_id, redirect_uris="")
    changes = assign(
        client,
        {
            "client_id": wanted.oauth_client_id,
            "client_type": model.CLIENT_CONFIDENTIAL,
            "authorization_grant_type": model.GRANT_AUTHORIZATION_CODE,
            "skip_authorization": True,
            "redirect_uris": _redirect_uris(client, wanted, keep_others=adopted),
            "name": client.name or wanted.oauth_name,
        },
    )
    if created or not secret_matches(client, wanted.oauth_client_secret):
        client.client_secret = stored_secret(wanted.oauth_client_secret)
        changes.append("client_secret")
    if changes:
        client.save()
    outcome.note("OAuth client", client.name, changes, created=created)
    if adopted and changes:
        outcome.items[-1] = Item("OAuth client", client.name, "adopted", changes)
    return client, adopted


def _find(wanted: Application) -> tuple[Any | None, bool]:
    """The existing client to use or None, and whether it was not created by provisioning."""
    model = get_application_model()
    known = ConnectedApplication.objects.filter(name=wanted.name).first()
    ids = [wanted.oauth_client_id, *([known.oauth_client_id] if known else [])]
    for client_id in ids:
        if client := model.objects.filter(client_id=client_id).first():
            return client, known.oauth_client_adopted if known else True
    taken = ConnectedApplication.objects.exclude(name=wanted.name).values("oauth_client_id")
    free = model.objects.exclude(client_id__in=taken)
    for client in free.filter(name=wanted.oauth_name).order_by("pk"):
        return client, True
    for client in free.filter(name=EDX_OAUTH_APP).order_by("pk"):
        if set(client.redirect_uris.split()) & set(wanted.oauth_redirect_uris):
            return client, True
    return None, False


def _redirect_uris(client: Any, wanted: Application, *, keep_others: bool) -> str:
    """The redirect URIs, one a line. keep_others: also those that the client has; an adopted client
    may be used by other applications."""
    present = client.redirect_uris.split()
    uris = list(dict.fromkeys([*wanted.oauth_redirect_uris, *(present if keep_others else [])]))
    return client.redirect_uris if set(uris) == set(present) else "\n".join(uris)


def stored_secret(secret: str) -> str:
    """The value to store for ``secret`` in this release of the OAuth toolkit. Newer releases store
    a hash, by default one as slow as a password's, which is computed for each token request."""
    field = get_application_model()._meta.get_field("client_secret")
    return hash_of_random(secret) if type(field).__name__ == "ClientSecretField" else secret


def secret_matches(client: Any, secret: str) -> bool:
    """Releases from 2.0 on keep a hash of the secret, older ones the secret itself."""
    try:
        identify_hasher(client.client_secret)
    except ValueError:
        return bool(client.client_secret == secret)
    return check_password(secret, client.client_secret)


def login_service_id() -> str:
    """The client id for which the LMS issues its JWT cookies."""
    return settings.JWT_AUTH.get("JWT_LOGIN_CLIENT_ID", "login-service-client-id")


def provision_login_service(outcome: Outcome) -> None:
    """Create the client of the LMS's own sign-in if it is missing: every sign-in then fails with
    status 500. The platform's migrations normally create it."""
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
    outcome.note("OAuth client", LOGIN_SERVICE, [], created=created)


def _login_service_user() -> Any:
    name = settings.JWT_AUTH.get("JWT_LOGIN_SERVICE_USERNAME", "login_service_user")
    user, created = get_user_model().objects.get_or_create(
        username=name, defaults={"password": random_password_hash()}
    )
    if created:
        conf.platform().profile_model().objects.get_or_create(user=user, defaults={"name": name})
    return user


def remove_client(known: ConnectedApplication, outcome: Outcome) -> None:
    """Delete the application's client, unless it was adopted."""
    client = get_application_model().objects.filter(client_id=known.oauth_client_id).first()
    if client is None:
        return
    if known.oauth_client_adopted:
        outcome.items.append(Item("OAuth client", client.name, "kept"))
        return
    name = client.name
    client.delete()
    outcome.items.append(Item("OAuth client", name, "removed"))
