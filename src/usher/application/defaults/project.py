"""``apply``: everything that a project needs, in one call at the end of ``settings.py``."""

from __future__ import annotations

import inspect
from collections.abc import Collection, MutableMapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Never

from django.core.exceptions import ImproperlyConfigured

from usher.application.defaults import environment
from usher.application.defaults.apps import INSTALLED_APPS, MIDDLEWARE
from usher.application.defaults.celery import (
    SWEEP_SECONDS,
    SYNC_RUNS_SECONDS,
    beat_schedule,
    celery,
)
from usher.application.defaults.database import SQLITE, sqlite_options
from usher.application.defaults.provider import (
    KEYED_HASHER,
    oauth2_provider,
    password_hashers,
    rest_framework,
)
from usher.contract.environment import Env
from usher.contract.folders import project_folder

#: ``env_file``: the ``.env`` in the folder of ``manage.py``.
ENV_NEXT_TO_MANAGE_PY = ".env"


#: Parameters of ``apply`` that are not options.
_NOT_OPTIONS = ("settings", "unknown")
#: Argument of one of the functions that ``apply`` calls → what to write instead.
_INSTEAD_OF_ARGUMENT = {
    "rsa_private_key": "oidc_rsa_private_key",
    "broker_url": "CELERY_BROKER_URL = … above the call",
    "hashers": "PASSWORD_HASHERS = [...] above the call",
}


def apply(
    settings: MutableMapping[str, Any],
    *,
    site_base_url: str = "",
    env_file: str | Path | None = ENV_NEXT_TO_MANAGE_PY,
    oidc_rsa_private_key: str = "",
    issuer: str = "",
    https_only: bool | None = None,
    sweep_seconds: float = SWEEP_SECONDS,
    sync_runs_seconds: float = SYNC_RUNS_SECONDS,
    **unknown: Never,
) -> None:
    """Adds the settings that Usher needs to ``settings``, the ``globals()`` of a settings module.

    Settings that the module has set before are kept: lists are appended to, dictionaries get the
    keys that they lack, and other values stay. Names without a value are read from the environment,
    or else from ``env_file``, which is relative to ``BASE_DIR``; None reads no file. The default is
    the ``.env`` in ``BASE_DIR``, or else the one next to ``manage.py`` in the parent folder.

    site_base_url: this application's address for browsers, unless ``SITE_BASE_URL`` is set in the
    module, the environment or the file. oidc_rsa_private_key: PEM, unless ``OIDC_RSA_PRIVATE_KEY``
    is set in the environment or the file. issuer: of ID tokens; '' for ``SITE_BASE_URL`` followed
    by ``/oauth2``. https_only: refuse redirect URIs that are not https; None refuses them if the
    addresses of this application and of the LMS are https. sweep_seconds, sync_runs_seconds:
    intervals of Celery's periodic tasks.

    Set other options of the OAuth toolkit, Django REST framework and Celery before the call, such
    as ``OAUTH2_PROVIDER = {"ACCESS_TOKEN_EXPIRE_SECONDS": 3600}``.

    Raises ImproperlyConfigured when the file can't be read, or an argument is unknown or of a wrong
    type. ``manage.py check`` names settings of a wrong type, and a server does not start with them.
    """
    _refuse_unknown(unknown)
    for name, value in (
        ("site_base_url", site_base_url),
        ("oidc_rsa_private_key", oidc_rsa_private_key),
        ("issuer", issuer),
    ):
        if not isinstance(value, str):
            raise ImproperlyConfigured(
                f"defaults.apply() got a {type(value).__name__} as {name}: write a text."
            )
    path = _env_file_path(settings, env_file)
    values = environment.read(path)
    # For `manage.py check`, which names lines of the file that can't be read.
    _set_default(settings, "USHER_ENV_FILE", str(path) if path and path.is_file() else "")
    _set_default(settings, "SITE_BASE_URL", values.get("SITE_BASE_URL") or site_base_url)
    for name, value in environment.settings(values).items():
        _set_default(settings, name, value)
    _add_apps(settings)
    _add_middleware(settings)
    _add_hasher(settings)
    # In the environment and the file, the PEM is on one line.
    key = (values.get("OIDC_RSA_PRIVATE_KEY") or oidc_rsa_private_key).replace("\\n", "\n")
    _set_provider(settings, key, issuer, https_only)
    settings.setdefault("REST_FRAMEWORK", rest_framework())
    settings["REST_FRAMEWORK"].setdefault(
        "DEFAULT_SCHEMA_CLASS", rest_framework()["DEFAULT_SCHEMA_CLASS"]
    )
    _set_celery(
        settings,
        values.get("CELERY_BROKER_URL", ""),
        beat_schedule(sweep_seconds=sweep_seconds, sync_runs_seconds=sync_runs_seconds),
    )
    _set_sqlite_options(settings)


def _refuse_unknown(unknown: Collection[str]) -> None:
    """Raises ImproperlyConfigured for unknown arguments; the message suggests a similar one."""
    parameter_names = [
        name for name in inspect.signature(apply).parameters if name not in _NOT_OPTIONS
    ]
    for name in unknown:
        if name.isupper():
            advice = (
                f"It is a setting: write it above the call, as {name} = … or in its dictionary."
            )
        elif name in _INSTEAD_OF_ARGUMENT:
            advice = f"Write {_INSTEAD_OF_ARGUMENT[name]}."
        elif similar := get_close_matches(name, parameter_names, n=1):
            advice = f"Did you mean {similar[0]}?"
        else:
            advice = f"It takes {', '.join(parameter_names)}."
        raise ImproperlyConfigured(f"defaults.apply() has no argument {name!r}. {advice}")


def _env_file_path(settings: MutableMapping[str, Any], env_file: str | Path | None) -> Path | None:
    """The path of the file to read, which may not exist; None for no file. ``.env`` is the one in
    BASE_DIR or, if there is none, the one in the folder of ``manage.py``."""
    if env_file is None:
        return None
    base_dir = Path(settings.get("BASE_DIR") or ".")
    path = base_dir / env_file
    if env_file != ENV_NEXT_TO_MANAGE_PY or path.exists():
        return path
    return project_folder(base_dir) / env_file


def _set_default(settings: MutableMapping[str, Any], name: str, value: Any) -> None:
    """Sets ``name`` unless the project has set it; False and 0 count as set."""
    if value not in ("", None) and settings.get(name) in ("", None):
        settings[name] = value


def _add_apps(settings: MutableMapping[str, Any]) -> None:
    apps = list(settings.get("INSTALLED_APPS", ()))
    settings["INSTALLED_APPS"] = [*apps, *(app for app in INSTALLED_APPS if app not in apps)]


def _add_middleware(settings: MutableMapping[str, Any]) -> None:
    middleware = list(settings.get("MIDDLEWARE", ()))
    settings["MIDDLEWARE"] = [*middleware, *(path for path in MIDDLEWARE if path not in middleware)]


def _add_hasher(settings: MutableMapping[str, Any]) -> None:
    hashers = settings.get("PASSWORD_HASHERS")
    if hashers is None:
        settings["PASSWORD_HASHERS"] = password_hashers()
    elif KEYED_HASHER not in hashers:
        settings["PASSWORD_HASHERS"] = [*hashers, KEYED_HASHER]


def _set_provider(
    settings: MutableMapping[str, Any], key: str, issuer: str, https_only: bool | None
) -> None:
    """Sets ``OAUTH2_PROVIDER``, in which the project's own options replace Usher's. key: in PEM
    format. issuer, https_only: as for ``apply``."""
    project_options = settings.get("OAUTH2_PROVIDER", {})
    site = str(settings.get("SITE_BASE_URL") or "").rstrip("/")
    lms = str(
        settings.get(Env.OPENEDX_BASE_REDIRECT_URL) or settings.get(Env.OPENEDX_API_BASE_URL) or ""
    )
    if https_only is None:
        # An LMS at an http address has an http redirect URI.
        https_only = site.startswith("https://") and lms.startswith("https://")
        if not https_only and "ALLOWED_REDIRECT_URI_SCHEMES" not in project_options:
            # Usher's checks name the address that is not https (W024), or not set (W001, W007).
            settings["SILENCED_SYSTEM_CHECKS"] = [
                *settings.get("SILENCED_SYSTEM_CHECKS", ()),
                "oauth2_provider.W008",
            ]
    options = oauth2_provider(
        issuer=issuer or (f"{site}/oauth2" if site else ""),
        rsa_private_key=key,
        https_only=https_only,
    )
    settings["OAUTH2_PROVIDER"] = options | project_options
    settings.setdefault("OAUTH2_PROVIDER_APPLICATION_MODEL", "oauth2_provider.Application")


def _set_celery(
    settings: MutableMapping[str, Any], broker_url: str, schedule: dict[str, dict[str, Any]]
) -> None:
    """Sets nothing for projects without a broker, which run ``reconcile --watch``."""
    broker_url = settings.get("CELERY_BROKER_URL") or broker_url
    if not broker_url:
        return
    for name, value in celery(broker_url).items():
        if name == "CELERY_BEAT_SCHEDULE":
            settings[name] = schedule | settings.get(name, {})
        else:
            settings.setdefault(name, value)


def _set_sqlite_options(settings: MutableMapping[str, Any]) -> None:
    for database in settings.get("DATABASES", {}).values():
        if database.get("ENGINE") == SQLITE:
            database["OPTIONS"] = sqlite_options() | database.get("OPTIONS", {})
