"""``config.yml``: Usher's part of it, written without passing through arguments.

``tutor config save --set`` takes values as arguments, where every user of the machine can read
them; so the file itself is edited, as Tutor writes it, in one step and closed to others.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from usher.connect.errors import Refused
from usher.contract import oauth, tutor_values
from usher.contract.envfile import PRIVATE_MODE, write_private
from usher.contract.provisioning import own_worker_name

APPLICATIONS = "USHER_APPLICATIONS"
PREFIX = "USHER_"
DEFAULT_APPLICATION = "USHER_DEFAULT_APPLICATION"
SUPERUSER = "USHER_SUPERUSER_USERNAME"
SUPERUSER_EMAIL = "USHER_SUPERUSER_EMAIL"
SUPERUSER_APPLICATION = "USHER_SUPERUSER_APPLICATION"
#: By the setting that names an application: all that means nothing without it.
_OF_ONE_APPLICATION = {
    DEFAULT_APPLICATION: (DEFAULT_APPLICATION,),
    SUPERUSER_APPLICATION: (SUPERUSER_APPLICATION, SUPERUSER, SUPERUSER_EMAIL),
}
#: The width of Open edX's column for it.
BACKEND_NAME_LENGTH = 30


def read(path: Path) -> dict[str, Any]:
    """An empty one where there is none yet."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """Values as Tutor may render them; they may come from an application. Raises Refused."""
    try:
        return tutor_values.checked(values)
    except tutor_values.NotAllowed as error:
        raise Refused(str(error)) from error


def write(path: Path, values: dict[str, Any]) -> None:
    """Sets these keys; a value of None takes the key away. Raises Refused for what Tutor must
    not render."""
    values = checked(values)
    data = read(path)
    for key, value in values.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
    text = yaml.safe_dump(data, default_flow_style=False, allow_unicode=True)
    write_private(path, text.encode())


def holds(path: Path, values: dict[str, Any]) -> bool:
    data = read(path)
    same = all(data.get(key) == value for key, value in values.items())
    return same and path.exists() and path.stat().st_mode & 0o777 == PRIVATE_MODE


def entries(path: Path, look: dict[str, Any]) -> list[dict[str, Any]]:
    """The applications connected now. The plugin's default counts only once it is enabled."""
    default = look["usher"].get(APPLICATIONS, []) if "usher" in look["enabled"] else []
    found = read(path).get(APPLICATIONS, default)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Refused(f"{path}: {APPLICATIONS} is not a list of applications")
    return [dict(item) for item in found]


def with_entry(found: list[dict[str, Any]], entry: dict[str, Any]) -> list[dict[str, Any]]:
    """``found`` with this application in its place, or at the end; what it had besides stays."""
    names = [item.get("name") for item in found]
    if entry["name"] not in names:
        return [*found, entry]
    return [{**item, **entry} if item.get("name") == entry["name"] else item for item in found]


def with_own_workers(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first application has the service worker of ``USHER_SERVICE_WORKER_*``. The others' are
    named, so that they keep theirs when the first one goes."""
    return [
        {"service_worker_username": own_worker_name(str(item.get("name"))), **item}
        if index
        else item
        for index, item in enumerate(found)
    ]


def of_applications(present: dict[str, Any], names: Iterable[str]) -> set[str]:
    """The keys of ``present`` that would name an application that isn't there, without these."""
    leaving = set(names)
    return {
        key
        for setting, keys in _OF_ONE_APPLICATION.items()
        if present.get(setting) in leaving
        for key in keys
        if key in present
    }


@dataclass(frozen=True)
class Choice:
    """name: in addresses and records, one for each application; base: the backend it behaves as."""

    name: str
    base: str


def choose_backend(
    found: list[dict[str, Any]], name: str, given: str, default: str = oauth.OL_OAUTH2.name
) -> Choice:
    """How application ``name`` signs in: by the given backend, as before, or by the default one.

    The LMS knows an application by its backend, so a second one of the same kind gets a name of
    its own, ``<application>-oauth2``. Raises Refused.
    """
    own = next((item for item in found if item.get("name") == name), {})
    before = own.get("backend", "")
    base = given or own.get("backend_base") or before or default
    if before and base in (before, own.get("backend_base")):
        return Choice(before, base)
    taken = {
        item.get("backend", oauth.DEFAULT_BACKEND) for item in found if item.get("name") != name
    }
    # A known backend's name means that very backend, so no other may have it.
    names = [base, *(made for made in _names_for(name) if made not in oauth.BACKENDS)]
    free = [made for made in names if made not in taken]
    if not free:
        raise Refused(f"other applications sign in by {' and '.join(names)}; choose another --name")
    return Choice(free[0], base)


def _names_for(name: str) -> list[str]:
    endings = ("-oauth2", "-app-oauth2")
    return [name[: BACKEND_NAME_LENGTH - len(ending)] + ending for ending in endings]
