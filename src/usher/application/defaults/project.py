"""``apply``: everything that a project needs, in one call at the end of ``settings.py``."""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from usher.application.defaults import environment
from usher.application.defaults.apps import INSTALLED_APPS, MIDDLEWARE
from usher.application.defaults.celery import celery
from usher.application.defaults.database import SQLITE, sqlite_options
from usher.application.defaults.provider import (
    KEYED_HASHER,
    oauth2_provider,
    password_hashers,
    rest_framework,
)
from usher.contract.environment import Env

#: ``env_file``: the ``.env`` beside ``manage.py``.
BESIDE_MANAGE = ".env"


def apply(
    settings: MutableMapping[str, Any],
    *,
    site_base_url: str = "",
    env_file: str | Path | None = BESIDE_MANAGE,
    oidc_rsa_private_key: str = "",
) -> None:
    """Adds to ``settings``, the ``globals()`` of a settings module, what Usher needs.

    What the module has set before stays: lists are appended to, dictionaries get what they lack,
    and a name that has a value keeps it. Names without one are read from the environment, and
    under it from ``env_file``, which is relative to ``BASE_DIR``; None reads no file.

    site_base_url: this application's address for browsers, where ``SITE_BASE_URL`` is in neither.
    oidc_rsa_private_key: PEM, where ``OIDC_RSA_PRIVATE_KEY`` is in neither.
    Raises ImproperlyConfigured when the file can't be read or a value has the wrong type.
    """
    path = _path(settings, env_file)
    values = environment.read(path)
    # `manage.py check` names the lines of it that can't be understood.
    _default(settings, "USHER_ENV_FILE", str(path) if path and path.is_file() else "")
    _default(settings, "SITE_BASE_URL", values.get("SITE_BASE_URL") or site_base_url)
    for name, value in environment.settings(values).items():
        _default(settings, name, value)
    _apps(settings)
    _middleware(settings)
    _hashers(settings)
    key = (values.get("OIDC_RSA_PRIVATE_KEY") or oidc_rsa_private_key).replace("\\n", "\n")
    _provider(settings, key)
    settings.setdefault("REST_FRAMEWORK", rest_framework())
    settings["REST_FRAMEWORK"].setdefault(
        "DEFAULT_SCHEMA_CLASS", rest_framework()["DEFAULT_SCHEMA_CLASS"]
    )
    _celery(settings, values.get("CELERY_BROKER_URL", ""))
    _databases(settings)


def _path(settings: MutableMapping[str, Any], env_file: str | Path | None) -> Path | None:
    if env_file is None:
        return None
    return Path(settings.get("BASE_DIR") or ".") / env_file


def _default(settings: MutableMapping[str, Any], name: str, value: Any) -> None:
    if value not in ("", None) and not settings.get(name):
        settings[name] = value


def _apps(settings: MutableMapping[str, Any]) -> None:
    there = list(settings.get("INSTALLED_APPS", ()))
    settings["INSTALLED_APPS"] = [*there, *(app for app in INSTALLED_APPS if app not in there)]


def _middleware(settings: MutableMapping[str, Any]) -> None:
    there = list(settings.get("MIDDLEWARE", ()))
    settings["MIDDLEWARE"] = [*there, *(one for one in MIDDLEWARE if one not in there)]


def _hashers(settings: MutableMapping[str, Any]) -> None:
    there = settings.get("PASSWORD_HASHERS")
    if there is None:
        settings["PASSWORD_HASHERS"] = password_hashers()
    elif KEYED_HASHER not in there:
        settings["PASSWORD_HASHERS"] = [*there, KEYED_HASHER]


def _provider(settings: MutableMapping[str, Any], key: str) -> None:
    site = str(settings.get("SITE_BASE_URL") or "").rstrip("/")
    lms = str(
        settings.get(Env.OPENEDX_BASE_REDIRECT_URL) or settings.get(Env.OPENEDX_API_BASE_URL) or ""
    )
    ours = oauth2_provider(
        issuer=f"{site}/oauth2" if site else "",
        rsa_private_key=key,
        # An LMS at an http address asks for an http redirect URI.
        https_only=site.startswith("https://") and lms.startswith("https://"),
    )
    settings["OAUTH2_PROVIDER"] = ours | settings.get("OAUTH2_PROVIDER", {})
    settings.setdefault("OAUTH2_PROVIDER_APPLICATION_MODEL", "oauth2_provider.Application")


def _celery(settings: MutableMapping[str, Any], broker_url: str) -> None:
    """Only for projects that have a broker: the others run ``reconcile --watch``."""
    broker_url = settings.get("CELERY_BROKER_URL") or broker_url
    if not broker_url:
        return
    for name, value in celery(broker_url).items():
        if name == "CELERY_BEAT_SCHEDULE":
            settings[name] = value | settings.get(name, {})
        else:
            settings.setdefault(name, value)


def _databases(settings: MutableMapping[str, Any]) -> None:
    for database in settings.get("DATABASES", {}).values():
        if database.get("ENGINE") == SQLITE:
            database["OPTIONS"] = sqlite_options() | database.get("OPTIONS", {})
