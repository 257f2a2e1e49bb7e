"""``configure_instance``: creates the records that an application needs to be connected to an
LMS."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import IntegrityError

from usher.application import conf
from usher.application.accounts.services import ensure_account
from usher.application.enrollments.services import enroll
from usher.application.provider.clients import ensure_client
from usher.application.runs.services import ensure_run
from usher.application.user_model import signs_in_by_email
from usher.contract.oauth import BACKENDS, lms_redirect_uri

#: The courses in which the test learner is enrolled.
COURSES = ("course-v1:edX+DemoX+Demo_Course", "course-v1:edX+E2E-101+course")
#: The domain of the e-mail addresses of the users that the command creates.
DOMAIN = "odl.local"
#: Host names that Tutor gives the LMS, in all its releases.
_TUTOR_HOSTS = ("local.openedx.io", "local.edly.io", "local.overhang.io")
#: The port of the LMS in Tutor's mode ``dev``.
_DEV_PORT = 8000
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class CantMakeUser(Exception):
    """The project's user model did not create the user, for example because it requires further
    fields."""


@dataclass(frozen=True)
class Client:
    """The LMS's OAuth client in this application. secret: '' unless this call set it."""

    client_id: str
    secret: str
    is_changed: bool

    def __repr__(self) -> str:
        return f"Client({self.client_id!r})"


def is_host(text: str) -> bool:
    """Whether ``text`` is an IP address or a host name, and nothing else."""
    return _is_ipv6(text) or _HOST.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def lms_addresses(platform: str, gateway: str, *, tutor: bool, tutor_dev: bool) -> list[str]:
    """All addresses of this LMS to which browsers may be redirected after sign-in.

    platform: where the LMS's containers run, ``linux``, ``macos`` or ``none``. gateway: host name
    or IP address of their network, '' for none; by default Docker's own name on macOS. tutor,
    tutor_dev: also the addresses that Tutor gives the LMS in its modes ``local`` and ``dev``.
    """
    settings = conf.settings()
    # ``port``: of the gateway's address; None for the default port, as in Tutor's mode ``local``.
    port = urlsplit(settings.api_base_url).port
    addresses = [settings.base_redirect_url, settings.api_base_url]
    if tutor_dev:
        port = _DEV_PORT
        addresses += [f"http://{host}:{_DEV_PORT}" for host in _TUTOR_HOSTS]
    if tutor:
        port = None
        for host in _TUTOR_HOSTS:
            addresses += [f"http://{host}", f"https://{host}"]
    host = f"[{gateway}]" if _is_ipv6(gateway) else gateway
    if not host and platform == "macos":
        host = "host.docker.internal"
    if host:
        addresses.append(f"http://{host}:{port}" if port else f"http://{host}")
    return list(dict.fromkeys(filter(None, addresses)))


def make_client(addresses: Iterable[str], client_id: str = "", secret: str = "") -> Client:
    """Creates or updates the LMS's OAuth client, with redirect URIs for all known backends at each
    of the addresses. Safe to repeat. client_id, secret: as for ``ensure_client``."""
    uris = [lms_redirect_uri(address, name) for address in addresses for name in BACKENDS]
    settings = conf.settings()
    client, new_secret, is_changed = ensure_client(
        settings.oauth_app_name,
        uris,
        client_id=client_id,
        client_secret=secret,
        backchannel_logout_url=settings.backchannel_logout_url,
    )
    return Client(client.client_id, secret=new_secret, is_changed=is_changed)


def find_user(username: str) -> Any:
    """The user with this username, ignoring case; None if there is no such user. If people sign in
    by e-mail, the user with the address ``<username>@odl.local``."""
    model = get_user_model()
    if signs_in_by_email(model):
        username = f"{username}@{DOMAIN}"
    return model._default_manager.filter(**{f"{model.USERNAME_FIELD}__iexact": username}).first()


def make_user(username: str, email: str, name: str, password: str, *, superuser: bool) -> Any:
    """Creates a user whose e-mail address counts as confirmed, since the operator chose the
    address.

    Works for user models whose manager has Django's ``create_user`` and ``create_superuser``.
    Raises CantMakeUser if the model requires more than a name, an e-mail address and a password.
    """
    model = get_user_model()
    first, _, last = name.partition(" ")
    values_of_fields = {
        model.USERNAME_FIELD: email if signs_in_by_email(model) else username,
        model.get_email_field_name(): email,
        "name": name,
        "full_name": name,
        "first_name": first,
        "last_name": last,
    }
    field_names = {field.name for field in model._meta.fields}
    create = "create_superuser" if superuser else "create_user"
    values = {field: value for field, value in values_of_fields.items() if field in field_names}
    try:
        user = getattr(model._default_manager, create)(password=password, **values)
    except (AttributeError, TypeError, ValueError, IntegrityError) as error:
        raise CantMakeUser(
            f"{create}({', '.join(values)}, password) of {model._meta.label} failed: {error}. "
            f"Create the user {email} yourself, and run the command again with "
            "--dont-create-users."
        ) from error
    if apps.is_installed("allauth.account"):
        from allauth.account.models import EmailAddress

        EmailAddress.objects.get_or_create(
            user=user, email=email, defaults={"verified": True, "primary": True}
        )
    return user


def make_runs_and_enrollments(user: Any, *, enrolled: bool) -> None:
    """Creates the rows of the two courses and of the test learner's account and enrollments. user:
    the test learner, or None. enrolled: whether to enroll the learner."""
    runs = [ensure_run(key) for key in COURSES]
    if user is None:
        return
    ensure_account(user)
    if not enrolled:
        return
    for run in runs:
        if not user.lms_enrollments.filter(run=run).exists():
            enroll(user, run)
