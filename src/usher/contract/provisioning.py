"""The JSON description that ``manage.py lms usher_provision`` reads: all records the LMS needs.

The Tutor plugin, the demo and ``usher connect`` write it; ``usher.lms`` reads it.
"""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, replace
from typing import Any

from usher.contract.failures import is_storable

VERSION = 1
#: The longest username that Open edX's forms accept.
_USERNAME_LENGTH = 30


class DescriptionError(ValueError):
    """The description is invalid; the message names the place and the error."""


@dataclass(frozen=True)
class ServiceWorker:
    """The LMS account that one application acts as: staff and active. token: the account's access
    token, valid for ``token_days`` days; provisioning extends it in the second half of them."""

    username: str
    email: str
    token: str = field(repr=False)
    token_days: int = 365


@dataclass(frozen=True)
class Superuser:
    """A superuser of the LMS, created if absent.

    password: '' for a random one. backend: sign-in backend of the application through which this
    superuser signs in; '' if the superuser signs in to the LMS by password.
    """

    username: str
    email: str
    password: str = field(default="", repr=False)
    backend: str = ""


#: What an application does as a service: create and copy course runs; retire learners.
COURSES, RETIREMENT = "courses", "retirement"
PURPOSES = (COURSES, RETIREMENT)


@dataclass(frozen=True)
class ServiceClient:
    """An OAuth client of the application in the LMS with the grant *client credentials*.

    purpose: one of ``PURPOSES``. username, email: the LMS account that the client acts as, created
    if absent; '' for the application's service worker.
    """

    purpose: str
    client_id: str
    client_secret: str = field(repr=False)
    username: str = ""
    email: str = ""


@dataclass(frozen=True)
class Application:
    """One connected application.

    name: unique in this LMS, such as ``mitxonline``. backend: name of the python-social-auth
    backend. client_id and client_secret: the LMS's OAuth client in the application. The ``oauth_*``
    fields: the application's OAuth client in the LMS. authorization_url and logout_url: addresses
    for browsers; all other addresses are for servers. webhook_secret: signs the LMS's messages to
    the application. service_worker: the application's own service worker; None for the shared
    service worker: see ``Description.service_worker_of``. service_clients: at most one for each
    purpose.
    """

    name: str
    backend: str
    provider_name: str
    client_id: str
    client_secret: str = field(repr=False)
    authorization_url: str
    access_token_url: str
    api_root: str
    logout_url: str
    oauth_name: str
    oauth_client_id: str
    oauth_client_secret: str = field(repr=False)
    oauth_redirect_uris: list[str]
    discovery_url: str = ""
    issuer: str = ""
    jwks_url: str = ""
    webhook_url: str = ""
    webhook_secret: str = field(default="", repr=False)
    backchannel_logout_url: str = ""
    service_worker: ServiceWorker | None = None
    service_clients: list[ServiceClient] = field(default_factory=list)


@dataclass(frozen=True)
class Description:
    """All records that the LMS needs. site: domain, with port, of the Django site that the records
    belong to; '' means the site of ``SITE_ID``. service_worker: the shared service worker, which
    the first application has if it has none of its own."""

    applications: list[Application]
    service_worker: ServiceWorker | None = None
    superuser: Superuser | None = None
    site: str = ""
    version: int = field(default=VERSION)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def service_worker_of(self, name: str) -> ServiceWorker | None:
        """The service worker of the application of that name, or None. No two applications have
        the same service worker: only the first application can have the shared one."""
        for index, application in enumerate(self.applications):
            if application.name == name:
                shared_service_worker = self.service_worker if index == 0 else None
                return application.service_worker or shared_service_worker
        return None

    def applications_with_service_workers(self) -> list[Application]:
        """The applications, each with its service worker in ``service_worker``."""
        return [
            replace(application, service_worker=self.service_worker_of(application.name))
            for application in self.applications
        ]

    @classmethod
    def from_json(cls, text: str | bytes) -> "Description":
        """Reads a description. Raises DescriptionError if ``text`` is not a complete
        description."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DescriptionError(f"the description is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise DescriptionError("the description is not a JSON object")
        if data.get("version", VERSION) != VERSION:
            raise DescriptionError(f"version {data.get('version')!r} is not {VERSION}")
        applications = data.get("applications", [])
        if not isinstance(applications, list):
            raise DescriptionError("applications is not a list")
        description = cls(
            applications=[
                _build(Application, item, f"applications[{index}]")
                for index, item in enumerate(applications)
            ],
            service_worker=_build_optional(ServiceWorker, data, "service_worker"),
            superuser=_build_optional(Superuser, data, "superuser"),
            site=_text(data.get("site", ""), "site"),
        )
        description._check_service_workers()
        return description

    def _check_service_workers(self) -> None:
        """Raises DescriptionError if two applications have the same service worker: each of the
        two could then act for the learners of the other one."""
        service_workers = [
            service_worker
            for application in self.applications
            if (service_worker := self.service_worker_of(application.name)) is not None
        ]
        for attribute in ("username", "token"):
            values = [getattr(service_worker, attribute) for service_worker in service_workers]
            if len(set(values)) < len(values):
                raise DescriptionError(
                    f"two applications have the same service worker ({attribute}); give each "
                    "application its own"
                )


def service_worker_name(name: str) -> str:
    """Username of an application's service worker if none is given."""
    return _account_name(name, "_serviceworker")


def retirement_account_name(name: str) -> str:
    """Username of the account by which an application retires learners."""
    return _account_name(name, "_retirement")


def _account_name(name: str, ending: str) -> str:
    """``name`` and ``ending``; a name that is too long is cut and gets a hash, so that it stays
    unique."""
    if len(name + ending) <= _USERNAME_LENGTH:
        return name + ending
    unique_ending = f"_{hashlib.sha256(name.encode()).hexdigest()[:6]}{ending}"
    return name[: _USERNAME_LENGTH - len(unique_ending)] + unique_ending


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise DescriptionError(f"{place} is not text")
    if not is_storable(value):
        raise DescriptionError(f"{place} has characters that no database can store")
    return value


def _build_optional(record_class: Any, data: dict[str, Any], key: str, place: str = "") -> Any:
    """The record ``data[key]``; None if there is none. place: as for ``_build``; by default, the
    key."""
    return None if data.get(key) is None else _build(record_class, data[key], place or key)


def _build_service_clients(items: Any, place: str) -> list[ServiceClient]:
    """The service clients of the application at ``place``. Raises DescriptionError."""
    if not isinstance(items, list):
        raise DescriptionError(f"{place}.service_clients is not a list")
    clients: list[ServiceClient] = []
    for index, item in enumerate(items):
        client = _build(ServiceClient, item, f"{place}.service_clients[{index}]")
        earlier_purposes = [earlier.purpose for earlier in clients]
        if client.purpose not in PURPOSES or client.purpose in earlier_purposes:
            raise DescriptionError(
                f"{place}.service_clients[{index}].purpose is not one of {', '.join(PURPOSES)}, "
                "each once"
            )
        clients.append(client)
    return clients


def _build(record_class: Any, data: Any, place: str) -> Any:
    """A record from its JSON object. place: the object's place in the description, for messages.
    Raises DescriptionError."""
    if not isinstance(data, dict):
        raise DescriptionError(f"{place} is not a JSON object")
    if unknown := sorted(set(data) - set(record_class.__dataclass_fields__)):
        raise DescriptionError(f"{place} has an unknown field: {unknown[0]}")
    if record_class is Application:
        service_worker = _build_optional(
            ServiceWorker, data, "service_worker", place=f"{place}.service_worker"
        )
        service_clients = _build_service_clients(data.get("service_clients", []), place)
        data = {**data, "service_worker": service_worker, "service_clients": service_clients}
    _check_types(record_class, data, place)
    try:
        record = record_class(**data)
    except TypeError as error:
        raise DescriptionError(f"{place} is incomplete: {error}") from error
    _check_required_fields(record, place)
    if isinstance(record, ServiceWorker) and record.token_days < 1:
        raise DescriptionError(f"{place}.token_days is less than 1")
    return record


def _check_types(record_class: Any, data: dict[str, Any], place: str) -> None:
    """Raises DescriptionError if a field is not a text, number or list of texts, as it should be,
    or has a text that no database can store. Fields that contain records are built, and so checked,
    by themselves."""
    for name, value in data.items():
        expected = record_class.__dataclass_fields__[name].type
        if expected in (ServiceWorker | None, list[ServiceClient]):
            continue
        if not _has_type(value, expected):
            type_name = getattr(expected, "__name__", expected)
            raise DescriptionError(f"{place}.{name} is not {type_name}")
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and not is_storable(text) for text in texts):
            raise DescriptionError(f"{place}.{name} has characters that no database can store")


def _has_type(value: Any, expected: Any) -> bool:
    """Whether the value is what a field of this type may have. expected: ``str``, ``int`` or
    ``list[str]``."""
    if expected is str:
        return isinstance(value, str)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _check_required_fields(record: Any, place: str) -> None:
    """Raises DescriptionError if a field without a default is empty."""
    for name, field_ in type(record).__dataclass_fields__.items():
        is_required = field_.default is MISSING and field_.default_factory is MISSING
        if is_required and not getattr(record, name):
            raise DescriptionError(f"{place}.{name} is empty")
