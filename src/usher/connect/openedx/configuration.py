"""Reads and writes Usher's values in ``config.yml``.

``tutor config save --set`` takes values as arguments, which every user of the machine can read. So
the file itself is replaced, in Tutor's own format, with mode 0600.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from usher.connect.errors import Refused
from usher.contract import oauth, tutor_values
from usher.contract.applications import EntryError
from usher.contract.description import DEFAULTS, describe
from usher.contract.envfile import PRIVATE_MODE, write_private
from usher.contract.paths import ApplicationPath
from usher.contract.provisioning import Description, service_worker_name

#: The setting with the entries of the connected applications.
APPLICATIONS = "USHER_APPLICATIONS"
#: The names of all settings of Usher begin with this.
PREFIX = "USHER_"
#: The secrets from which all others are derived.
GENERATED = ("USHER_SECRET", "USHER_SERVICE_WORKER_TOKEN")
DEFAULT_APPLICATION = "USHER_DEFAULT_APPLICATION"
SUPERUSER = "USHER_SUPERUSER_USERNAME"
SUPERUSER_EMAIL = "USHER_SUPERUSER_EMAIL"
SUPERUSER_APPLICATION = "USHER_SUPERUSER_APPLICATION"
#: A setting that names an application → the settings that have no meaning without that application.
_KEYS_OF_ONE_APPLICATION = {
    DEFAULT_APPLICATION: (DEFAULT_APPLICATION,),
    SUPERUSER_APPLICATION: (SUPERUSER_APPLICATION, SUPERUSER, SUPERUSER_EMAIL),
}
#: The keys of an entry that connect writes only for an application with an API gateway.
_KEYS_OF_A_GATEWAY = ("gateway_url", "logout_url", "server_url")
#: The length of Open edX's database column for a backend's name.
MAX_BACKEND_NAME_LENGTH = 30


def read(path: Path) -> dict[str, Any]:
    """Returns the content of ``config.yml``; {} if there is no file. Raises Refused."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r" *\t", line):
            raise Refused(
                f"{path}, line {number}: a tab in the indentation; YAML allows only spaces there"
            )
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise Refused(f"{path}{place}: not YAML: {getattr(error, 'problem', error)}") from error
    if data is not None and not isinstance(data, dict):
        raise Refused(f"{path}, line 1: not a list of settings (NAME: value)")
    return data or {}


def require_safe(values: dict[str, Any]) -> dict[str, Any]:
    """Returns ``values`` if Tutor can render them safely, since an application may have chosen
    them. Raises Refused."""
    try:
        return tutor_values.check_settings(values)
    except tutor_values.NotAllowed as error:
        raise Refused(str(error)) from error


def write(path: Path, values: dict[str, Any]) -> None:
    """Writes these keys into ``config.yml``; a value of None removes the key. Raises Refused, as
    ``require_safe`` does."""
    values = require_safe(values)
    data = read(path)
    for key, value in values.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    text = yaml.safe_dump(data, default_flow_style=False, allow_unicode=True)
    write_private(path, text.encode())


def description_of(path: Path, config: dict[str, Any]) -> Description:
    """Returns the description of the LMS's records that follows from these ``USHER_*`` values.

    path: the file to name in an error. Raises Refused.
    """
    try:
        return describe(DEFAULTS | config)
    except EntryError as error:
        raise Refused(f"{path}: {error}") from error


def has_values(path: Path, values: dict[str, Any]) -> bool:
    """Whether the file has these values and mode 0600."""
    data = read(path)
    is_same = all(data.get(key) == value for key, value in values.items())
    return is_same and path.exists() and path.stat().st_mode & 0o777 == PRIVATE_MODE


def application_entries(path: Path, report: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the connected applications, as in USHER_APPLICATIONS. If ``path`` has none, returns
    the plugin's default if the plugin is enabled.

    report: the result of ``inspect_root``. Raises Refused.
    """
    default = report["usher"].get(APPLICATIONS, []) if "usher" in report["enabled"] else []
    applications = read(path).get(APPLICATIONS, default)
    if not isinstance(applications, list) or not all(
        isinstance(item, dict) for item in applications
    ):
        raise Refused(f"{path}: {APPLICATIONS} is not a list of applications")
    return [dict(item) for item in applications]


def with_entry(
    earlier_entries: list[dict[str, Any]], entry: dict[str, Any]
) -> list[dict[str, Any]]:
    """Returns ``earlier_entries`` with this application's entry updated, or added at the end. An
    updated entry keeps the earlier values that ``entry`` lacks, except the addresses of an API
    gateway that the application no longer has."""
    names = [item.get("name") for item in earlier_entries]
    if entry["name"] not in names:
        return [*earlier_entries, entry]
    return [
        {**_without_gateway(item, entry), **entry} if item.get("name") == entry["name"] else item
        for item in earlier_entries
    ]


def _without_gateway(earlier_entry: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the earlier entry without the addresses of an API gateway if ``entry`` has no
    gateway."""
    had_gateway = str(earlier_entry.get("logout_url", "")).endswith(ApplicationPath.GATEWAY_LOGOUT)
    obsolete_keys = _KEYS_OF_A_GATEWAY if had_gateway and "logout_url" not in entry else ()
    return {key: value for key, value in earlier_entry.items() if key not in obsolete_keys}


def entries_with_workers(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the applications' entries. Each after the first names a service worker of its own.

    The first application uses ``USHER_SERVICE_WORKER_*``. If another application is disconnected,
    the others keep their service workers.
    """
    return [
        {"service_worker_username": service_worker_name(str(item.get("name"))), **item}
        if index
        else item
        for index, item in enumerate(entries)
    ]


def keys_of_applications(present: dict[str, Any], names: Iterable[str]) -> set[str]:
    """Returns the keys of the configuration ``present`` that have no meaning after these
    applications are removed."""
    removed_names = set(names)
    return {
        key
        for setting, keys in _KEYS_OF_ONE_APPLICATION.items()
        if present.get(setting) in removed_names
        for key in keys
        if key in present
    }


@dataclass(frozen=True)
class BackendChoice:
    """The sign-in backend of one application. name: unique for each application; known_backend: the
    name in ``oauth.BACKENDS`` of the backend that it is, or of which it is a variant."""

    name: str
    known_backend: str


def choose_backend(
    present_entries: list[dict[str, Any]],
    name: str,
    option: str,
    default: str = oauth.OL_OAUTH2.name,
) -> BackendChoice:
    """Returns the backend of application ``name``: the requested one, the present one or the
    default.

    The LMS identifies an application by its backend's name, so a second application with the same
    backend gets a variant named ``<application>-oauth2``. Raises Refused.
    """
    own_entry = next((item for item in present_entries if item.get("name") == name), {})
    present = own_entry.get("backend", "")
    known = option or own_entry.get("backend_base") or present or default
    if present and known in (present, own_entry.get("backend_base")):  # nothing changes
        return BackendChoice(name=present, known_backend=known)
    used_names = {
        item.get("backend", oauth.DEFAULT_BACKEND)
        for item in present_entries
        if item.get("name") != name
    }
    # The names of known backends are never used for variants.
    names = [known, *(variant for variant in _variants_for(name) if variant not in oauth.BACKENDS)]
    free = [variant for variant in names if variant not in used_names]
    if not free:
        raise Refused(
            f"other applications have the backends {' and '.join(names)}; choose another --name"
        )
    return BackendChoice(name=free[0], known_backend=known)


def _variants_for(name: str) -> list[str]:
    """Returns two names for the application's variant of a backend. The second is used if another
    application has the first."""
    endings = ("-oauth2", "-app-oauth2")
    return [name[: MAX_BACKEND_NAME_LENGTH - len(ending)] + ending for ending in endings]
