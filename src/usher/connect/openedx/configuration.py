"""``config.yml``: Usher's part of it, written without passing through arguments.

``tutor config save --set`` takes values as arguments, where every user of the machine can read
them; so the file itself is edited, as Tutor writes it, in one step and closed to others.
"""

from pathlib import Path
from typing import Any

import yaml

from usher.connect.errors import Refused
from usher.contract import oauth
from usher.contract.envfile import PRIVATE_MODE, write_private

APPLICATIONS = "USHER_APPLICATIONS"
PREFIX = "USHER_"


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text()) or {}


def write(path: Path, values: dict[str, Any]) -> None:
    """Sets these keys; a value of None takes the key away."""
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
    return same and path.stat().st_mode & 0o777 == PRIVATE_MODE


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


def choose_backend(found: list[dict[str, Any]], name: str, given: str) -> str:
    """The backend of application ``name``: given, as it was, or the first that is free.

    The LMS knows an application by its backend, so two can't share one. Raises Refused.
    """
    taken = {
        item.get("backend", oauth.DEFAULT_BACKEND): item["name"]
        for item in found
        if item.get("name") != name
    }
    own = next((item.get("backend") for item in found if item.get("name") == name), None)
    wish = given or own
    if wish and wish in taken:
        free = [backend for backend in oauth.BACKENDS if backend not in taken]
        raise Refused(
            f"{taken[wish]} already signs in by {wish} on this LMS; "
            + (f"use --backend {free[0]} for {name}" if free else "no other backend is left")
        )
    if wish:
        return str(wish)
    free = [backend for backend in oauth.BACKENDS if backend not in taken]
    if not free:
        raise Refused(
            f"{' and '.join(taken.values())} use the backends there are; for {name} add an entry "
            f"with backend and backend_class to {APPLICATIONS} in config.yml, then run this again"
        )
    return free[0]
