"""Creates and finds the records of OAuth2 clients, such as the LMS's."""

from typing import Any, NamedTuple

from django.contrib.auth.hashers import check_password
from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from oauth2_provider.generators import generate_client_secret
from oauth2_provider.models import get_application_model

from usher.application import conf
from usher.application.audit.services import record
from usher.application.provider.models import ClientPolicy


def is_lms(client: Any) -> bool:
    """Whether this client is an LMS: the one in the settings, or one with an address for sign-out
    messages, which only LMSs have."""
    if client is None:
        return False
    if client.name == conf.settings().oauth_app_name:
        return True
    try:
        return bool(client.usher_policy.backchannel_logout_url)
    except ObjectDoesNotExist:
        return False


class EnsuredClient(NamedTuple):
    """record: the client's. secret: its secret if it was set now; otherwise '', since only a hash
    is stored. is_changed: whether the record or its policy was created or changed."""

    record: Any
    secret: str
    is_changed: bool


@transaction.atomic
def ensure_client(
    name: str,
    redirect_uris: list[str],
    *,
    client_id: str = "",
    client_secret: str = "",
    pkce_required: bool = False,
    backchannel_logout_url: str = "",
) -> EnsuredClient:
    """Creates or corrects the confidential authorization-code client of that name.

    Redirect URIs are added and never removed. client_id, client_secret: the required values; ''
    keeps the present value, or generates one for a new client. pkce_required: whether the client
    must use PKCE. backchannel_logout_url: where the client receives sign-out messages; '' keeps the
    present address.
    """
    model = get_application_model()
    existing = model.objects.filter(name=name).order_by("id").first()
    client = existing or model(name=name)
    values = {
        "client_type": model.CLIENT_CONFIDENTIAL,
        "authorization_grant_type": model.GRANT_AUTHORIZATION_CODE,
        "skip_authorization": True,
        "algorithm": model.RS256_ALGORITHM,
        "redirect_uris": " ".join(dict.fromkeys([*client.redirect_uris.split(), *redirect_uris])),
        "client_id": client_id or client.client_id,
    }
    changed = {field for field, value in values.items() if getattr(client, field) != value}
    for field in changed:
        setattr(client, field, values[field])
    secret = _secret_to_set(client, client_secret)
    if secret:
        client.client_secret = secret
    is_changed = bool(changed or secret)
    if is_changed:
        client.save()
        record("client-secret-set" if secret else "client-changed", subject=name)
    is_changed |= _ensure_policy(client, pkce_required, backchannel_logout_url)
    return EnsuredClient(client, secret, is_changed)


def _ensure_policy(client: Any, pkce_required: bool, backchannel_logout_url: str) -> bool:
    """Creates or corrects the client's policy. Returns whether anything changed."""
    policy = ClientPolicy.objects.filter(application=client).first()
    policy = policy or ClientPolicy(application=client)
    address = backchannel_logout_url or policy.backchannel_logout_url
    is_unchanged = (
        policy.pkce_required == pkce_required and policy.backchannel_logout_url == address
    )
    if policy.pk is not None and is_unchanged:
        return False
    policy.pkce_required, policy.backchannel_logout_url = pkce_required, address
    policy.save()
    client.usher_policy = policy
    return True


def _secret_to_set(client: Any, secret: str) -> str:
    """The secret to store; '' if the stored hash matches ``secret`` already."""
    if client.pk is None:
        return secret or generate_client_secret()
    if secret and not check_password(secret, client.client_secret):
        return secret
    return ""
