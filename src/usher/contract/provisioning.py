"""What ``manage.py lms usher_provision`` reads: one JSON description of all the LMS must have.

Made by the Tutor plugin, the demo and ``usher connect``; understood by ``usher.lms``.
"""

import json
from dataclasses import MISSING, asdict, dataclass, field
from typing import Any

VERSION = 1


class DescriptionError(ValueError):
    """The description can't be used; the message names the place and what is wrong there."""


@dataclass(frozen=True)
class ServiceWorker:
    """Staff and active; ``token`` is its access token, valid ``token_days`` and renewed before."""

    username: str
    email: str
    token: str
    token_days: int = 365


@dataclass(frozen=True)
class Superuser:
    """Made when absent; with an empty ``password`` it gets a random one.

    backend: of the application whose superuser this is, who then signs in by it; '' is an account
    of the LMS's own.
    """

    username: str
    email: str
    password: str = ""
    backend: str = ""


@dataclass(frozen=True)
class Application:
    """One connected application: who it is for the LMS, and who the LMS is for it.

    name: unique on this LMS, e.g. ``mitxonline``. backend: python-social-auth name. client_id and
    client_secret: the LMS's credentials at the application. The ``oauth_*`` fields describe the
    application's own OAuth client at the LMS (P19). Addresses: authorization_url and logout_url
    are for browsers, the others for servers. webhook_secret signs what the LMS sends.
    """

    name: str
    backend: str
    provider_name: str
    client_id: str
    client_secret: str
    authorization_url: str
    access_token_url: str
    api_root: str
    logout_url: str
    oauth_name: str
    oauth_client_id: str
    oauth_client_secret: str
    oauth_redirect_uris: list[str]
    discovery_url: str = ""
    issuer: str = ""
    jwks_url: str = ""
    webhook_url: str = ""
    webhook_secret: str = ""
    backchannel_logout_url: str = ""


@dataclass(frozen=True)
class Description:
    """site: domain (with port) of the LMS's own site; '' means the site of ``SITE_ID``."""

    applications: list[Application]
    service_worker: ServiceWorker | None = None
    superuser: Superuser | None = None
    site: str = ""
    version: int = field(default=VERSION)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Description":
        """Raises DescriptionError for anything that is not a complete description."""
        try:
            data = json.loads(text)
        except ValueError as error:
            raise DescriptionError(f"the description is not JSON: {error}") from error
        if not isinstance(data, dict):
            raise DescriptionError("the description is not a JSON object")
        if data.get("version", VERSION) != VERSION:
            raise DescriptionError(f"version {data.get('version')!r} is not {VERSION}")
        applications = data.get("applications", [])
        if not isinstance(applications, list):
            raise DescriptionError("applications is not a list")
        return cls(
            applications=[
                _build(Application, item, f"applications[{index}]")
                for index, item in enumerate(applications)
            ],
            service_worker=_build_optional(ServiceWorker, data, "service_worker"),
            superuser=_build_optional(Superuser, data, "superuser"),
            site=_text(data.get("site", ""), "site"),
        )


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise DescriptionError(f"{place} is not text")
    return value


def _build_optional(kind: Any, data: dict[str, Any], key: str) -> Any:
    return None if data.get(key) is None else _build(kind, data[key], key)


def _build(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise DescriptionError(f"{place} is not a JSON object")
    known = kind.__dataclass_fields__
    if unknown := sorted(set(data) - set(known)):
        raise DescriptionError(f"{place} has an unknown field: {unknown[0]}")
    for name, value in data.items():
        expected = known[name].type
        matches = {
            str: isinstance(value, str),
            int: isinstance(value, int) and not isinstance(value, bool),
        }.get(expected, isinstance(value, list) and all(isinstance(v, str) for v in value))
        if not matches:
            kind_name = getattr(expected, "__name__", expected)
            raise DescriptionError(f"{place}.{name} is not {kind_name}")
    try:
        built = kind(**data)
    except TypeError as error:
        raise DescriptionError(f"{place} is incomplete: {error}") from error
    for name, field_ in known.items():
        if field_.default is MISSING and not getattr(built, name):
            raise DescriptionError(f"{place}.{name} is empty")
    if isinstance(built, ServiceWorker) and built.token_days < 1:
        raise DescriptionError(f"{place}.token_days is less than 1")
    return built
