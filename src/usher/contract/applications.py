"""Entries of ``USHER_APPLICATIONS``, the plugin's list of connected applications.

A person writes a few fields for each application; the others are derived here.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from usher.contract import oauth, tutor_values
from usher.contract.editions import EDITIONS
from usher.contract.paths import ApplicationPath
from usher.contract.provisioning import (
    COURSES,
    Application,
    ServiceClient,
    ServiceWorker,
    retirement_account_name,
    service_worker_name,
)

#: Inside containers, the host name of the machine that runs them.
HOST_GATEWAY_NAME = "host.docker.internal"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
#: Ends of host names that no public name server knows: such a name can only mean this machine.
_LOCAL_SUFFIXES = (".local", ".localhost", ".test", ".internal")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
#: The types of fields that are not text, and their descriptions for messages.
_FIELD_TYPES: dict[str, type] = {
    "redirect_uris": list,
    "service_clients": list,
    "usher": bool,
    "on_host": bool,
}
_TYPE_DESCRIPTIONS = {
    "redirect_uris": "a list of addresses",
    "service_clients": "a list of purposes",
    "usher": "true or false",
    "on_host": "true or false",
}


class EntryError(ValueError):
    """An entry can't be used; the message names it, the field and what to write instead."""


@dataclass(frozen=True)
class Entry:
    """One entry of ``USHER_APPLICATIONS``; for a known edition, ``name`` is enough.

    Ids, secrets and the service worker are derived if they are not given; the first entry then has
    the service worker of ``USHER_SERVICE_WORKER_*``.
    """

    name: str
    #: The application's address for browsers.
    root_url: str = ""
    #: Its address for the LMS's containers, by default derived from ``root_url``.
    server_url: str = ""
    #: Its second address for browsers: MITx Online's API gateway.
    gateway_url: str = ""
    #: The address that ends a browser's session, by default ``/logout/``.
    logout_url: str = ""
    #: The name of the sign-in backend in URLs and records.
    backend: str = oauth.DEFAULT_BACKEND
    #: The backend whose class is used; needed if a second application uses the same class under
    #: another name.
    backend_base: str = ""
    #: The display name of the provider record.
    provider_name: str = oauth.PROVIDER_NAME
    #: The name of the application's OAuth client in the LMS.
    oauth_name: str = ""
    #: The redirect URIs of the application's OAuth client in the LMS.
    redirect_uris: list[str] = field(default_factory=list)
    #: Whether the application is built on Usher, so that it takes webhooks and back-channel
    #: messages.
    usher: bool = True
    #: Whether the host name in ``server_url`` means the machine that runs the containers; None:
    #: decided by the name.
    on_host: bool | None = None
    #: The LMS's OAuth client in the application.
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    #: The application's OAuth client in the LMS.
    oauth_client_id: str = ""
    oauth_client_secret: str = field(default="", repr=False)
    #: Signs the LMS's messages to the application.
    webhook_secret: str = field(default="", repr=False)
    #: The LMS account that the application acts as.
    service_worker_username: str = ""
    service_worker_email: str = ""
    service_worker_token: str = field(default="", repr=False)
    #: What the application does as a service (``usher.contract.provisioning.PURPOSES``), each with
    #: an OAuth client of its own.
    service_clients: list[str] = field(default_factory=list)

    @property
    def sign_out_url(self) -> str:
        """The address that ends a browser's session."""
        return self.logout_url or self.root_url + ApplicationPath.LOGOUT

    @property
    def host_alias(self) -> str:
        """The host name in ``server_url`` if containers must resolve it to the machine that runs
        them; '' otherwise."""
        name = urlsplit(self.server_url).hostname or ""
        is_on_host = name.endswith(_LOCAL_SUFFIXES) if self.on_host is None else self.on_host
        return name if is_on_host else ""


def read_entries(items: Any) -> list[Entry]:
    """The entries, with all derived fields. Raises EntryError for the first entry that can't be
    used, and for two entries with the same name, backend, OAuth client or service worker."""
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise EntryError("USHER_APPLICATIONS is not a list")
    entries = [_read_entry(item, index) for index, item in enumerate(items)]
    for attribute in ("name", "backend", "oauth_name", "service_worker_username"):
        entry_names: dict[str, str] = {}  # value of the attribute → name of the entry that has it
        for entry in entries:
            value = getattr(entry, attribute)
            if value and value in entry_names:
                raise EntryError(
                    f"{entry_names[value]} and {entry.name} in USHER_APPLICATIONS have the same"
                    f" {attribute}, {value!r}: each application needs its own"
                )
            entry_names[value] = entry.name
    return entries


def to_application(entry: Entry, secret: str) -> Application:
    """The records that the LMS needs of this application. Ids and secrets that the entry does not
    give are derived from ``secret``, the plugin's ``USHER_SECRET``."""

    def given_or_derived(value: str, purpose: str) -> str:
        return value or derive(secret, entry.name, purpose)

    def usher_address(path: str) -> str:
        return entry.server_url + path if entry.usher else ""

    return Application(
        name=entry.name,
        backend=entry.backend,
        provider_name=entry.provider_name,
        client_id=given_or_derived(entry.client_id, "client_id"),
        client_secret=given_or_derived(entry.client_secret, "client_secret"),
        authorization_url=entry.root_url + ApplicationPath.AUTHORIZE,
        access_token_url=entry.server_url + ApplicationPath.TOKEN,
        api_root=entry.server_url + "/",
        logout_url=entry.sign_out_url,
        oauth_name=entry.oauth_name,
        oauth_client_id=given_or_derived(entry.oauth_client_id, "oauth_client_id"),
        oauth_client_secret=given_or_derived(entry.oauth_client_secret, "oauth_client_secret"),
        oauth_redirect_uris=entry.redirect_uris,
        discovery_url=usher_address(ApplicationPath.DISCOVERY),
        issuer=entry.root_url + "/oauth2",
        jwks_url=usher_address(ApplicationPath.JWKS),
        webhook_url=usher_address(ApplicationPath.WEBHOOKS),
        webhook_secret=given_or_derived(entry.webhook_secret, "webhook_secret")
        if entry.usher
        else "",
        backchannel_logout_url=usher_address(ApplicationPath.BACKCHANNEL_LOGOUT),
        service_clients=[
            _service_client(entry, secret, client) for client in entry.service_clients
        ],
    )


def application_built_on_usher(
    name: str,
    root_url: str,
    *,
    client_id: str,
    client_secret: str,
    oauth_client_id: str,
    oauth_client_secret: str,
    webhook_secret: str,
) -> Application:
    """The records for an application built on Usher that the LMS's server and browsers reach at
    the same address. client_id, client_secret: the LMS's OAuth client in the application;
    oauth_client_id, oauth_client_secret: the application's OAuth client in the LMS."""
    return Application(
        name=name,
        backend=oauth.DEFAULT_BACKEND,
        provider_name=oauth.PROVIDER_NAME,
        client_id=client_id,
        client_secret=client_secret,
        authorization_url=root_url + ApplicationPath.AUTHORIZE,
        access_token_url=root_url + ApplicationPath.TOKEN,
        api_root=root_url + "/",
        logout_url=root_url + ApplicationPath.LOGOUT,
        oauth_name=oauth.EDX_OAUTH_APP,
        oauth_client_id=oauth_client_id,
        oauth_client_secret=oauth_client_secret,
        oauth_redirect_uris=[root_url + path for path in ApplicationPath.LANDINGS],
        issuer=root_url + "/oauth2",
        jwks_url=root_url + ApplicationPath.JWKS,
        webhook_url=root_url + ApplicationPath.WEBHOOKS,
        webhook_secret=webhook_secret,
        backchannel_logout_url=root_url + ApplicationPath.BACKCHANNEL_LOGOUT,
    )


def _service_client(entry: Entry, secret: str, purpose: str) -> ServiceClient:
    # '': for course runs, the client acts as the application's service worker.
    username = "" if purpose == COURSES else retirement_account_name(entry.name)
    return ServiceClient(
        purpose=purpose,
        client_id=derive(secret, entry.name, f"{purpose}_client_id"),
        client_secret=derive(secret, entry.name, f"{purpose}_client_secret"),
        username=username,
        email=f"{username}@example.org".lower() if username else "",
    )


def service_worker(entry: Entry, secret: str) -> ServiceWorker:
    """The entry's own service worker. Values that the entry does not give are derived from
    ``secret``."""
    username = entry.service_worker_username or service_worker_name(entry.name)
    return ServiceWorker(
        username=username,
        email=entry.service_worker_email or f"{username}@example.org".lower(),
        token=entry.service_worker_token or derive(secret, entry.name, "service_worker_token"),
    )


def derive(secret: str, name: str, purpose: str) -> str:
    """An id or a secret of 64 hex digits, always the same for one application and purpose. It does
    not reveal the id or secret of any other application or purpose."""
    message = f"usher-v1:{name}:{purpose}".encode()
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _read_entry(item: Any, index: int) -> Entry:
    """The checked entry with its derived fields. index: its place in the list, for messages. Raises
    EntryError."""
    place = f"USHER_APPLICATIONS[{index}]"
    if not isinstance(item, Mapping):
        raise EntryError(f"{place} is not a mapping with a name")
    field_names = Entry.__dataclass_fields__
    if unknown := sorted(set(map(str, item)) - set(field_names)):
        field_name = tutor_values.quoted(unknown[0])
        raise EntryError(
            f"{place} has an unknown field {field_name}; known: {', '.join(field_names)}"
        )
    if not _NAME.fullmatch(str(item.get("name") or "")):
        raise EntryError(f"{place} has no name of letters, digits, - and _")
    values = dict(item)
    for key, value in values.items():
        if not isinstance(value, _FIELD_TYPES.get(key, str)):
            description = _TYPE_DESCRIPTIONS.get(key, "text")
            value_text = tutor_values.quoted(value)
            raise EntryError(f"{place}.{key} is {value_text}, which is not {description}")
    _add_derived_fields(values, place, is_first=index == 0)
    return Entry(**_check_entry(values, place))


def _check_entry(values: dict[str, Any], place: str) -> dict[str, Any]:
    """The entry's values, checked. Raises EntryError for a value that must not be rendered."""
    try:
        return tutor_values.entry(values, place)
    except tutor_values.NotAllowed as error:
        raise EntryError(str(error)) from None


def _add_derived_fields(values: dict[str, Any], place: str, *, is_first: bool) -> None:
    """Adds the fields that can be derived from others. Raises EntryError for a bad address or an
    unknown backend."""
    edition = EDITIONS.get(values["name"])
    if edition and not values.get("root_url"):
        values["root_url"] = edition.root_url
        values.setdefault("gateway_url", edition.gateway_url)
    root_url = _address(values.get("root_url"), f"{place}.root_url")
    values["root_url"] = root_url
    if values.get("server_url"):
        values["server_url"] = _address(values["server_url"], f"{place}.server_url")
    else:
        values["server_url"] = _address_for_containers(root_url)
    roots = [root_url]
    if values.get("gateway_url"):
        values["gateway_url"] = _address(values["gateway_url"], f"{place}.gateway_url")
        roots.append(values["gateway_url"])
    if not values.get("redirect_uris"):
        values["redirect_uris"] = [
            root + path for root in roots for path in ApplicationPath.LANDINGS
        ]
    if not values.get("oauth_name"):
        values["oauth_name"] = oauth.EDX_OAUTH_APP if is_first else f"{values['name']}-oauth-app"
    _add_backend(values, place)


def _add_backend(values: dict[str, Any], place: str) -> None:
    """Adds the backend, if it is absent, and the known backend of which it is a variant. Raises
    EntryError if that one is not known."""
    values.setdefault("backend", oauth.DEFAULT_BACKEND)
    base = values.get("backend_base") or values["backend"]
    if base not in oauth.BACKENDS:
        field_name = "backend_base" if values.get("backend_base") else "backend"
        raise EntryError(
            f"{place}.{field_name} is {tutor_values.quoted(base)}: "
            f"write one of {', '.join(oauth.BACKENDS)}"
            " (for a backend with another name, write one of these as backend_base)"
        )
    values["backend_base"] = base


def _address(value: Any, place: str) -> str:
    """As ``tutor_values.address``, but raises EntryError."""
    try:
        return tutor_values.address(value, place)
    except tutor_values.NotAllowed as error:
        raise EntryError(str(error)) from None


def _address_for_containers(root_url: str) -> str:
    """The address at which containers reach the application. Inside a container ``localhost`` means
    the container itself, so ``localhost`` is replaced by ``HOST_GATEWAY_NAME``."""
    parts = urlsplit(root_url)
    if parts.hostname not in _LOOPBACK:
        return root_url
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{HOST_GATEWAY_NAME}{port}{parts.path}"
