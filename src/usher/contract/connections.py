"""The connections that this person has made, read by ``status``, ``doctor``, ``disconnect`` and
others as defaults.

One JSON file, mode 0600. It names places and holds no secrets.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from usher.contract.envfile import write_private

#: What runs the LMS.
TUTOR, EMBEDDED = "tutor", "embedded"
_FILE = "connections.json"
_VERSION = 1


class ConnectionsError(ValueError):
    """The file can't be read; the message names it and what to do."""


@dataclass(frozen=True)
class Connection:
    """One application at one LMS.

    application: its checkout, or its address where there is none here; manage: the command in front
    of a management command, as a person types it; url, server_url: the application's addresses for
    browsers and for the LMS's server, as given ('' for found); lms_url, lms_server_url: the same of
    the LMS; lms: ``tutor`` or ``embedded``; lms_home: folder of an embedded LMS; tutor: the
    executable; connected, verified: ISO times in UTC, '' for never.
    """

    name: str
    application: str
    lms_url: str
    title: str = ""
    edition: str = ""
    backend: str = ""
    manage: str = ""
    env_file: str = ""
    url: str = ""
    server_url: str = ""
    lms_server_url: str = ""
    lms: str = TUTOR
    lms_home: str = ""
    tutor: str = ""
    tutor_root: str = ""
    mode: str = ""
    connected: str = ""
    verified: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """An application may be connected to one LMS in one place under one name."""
        return self.tutor_root or self.lms_home, self.name


def config_home() -> Path:
    """``USHER_CONFIG_HOME``, else ``USHER_STATE_HOME``, else ``$XDG_CONFIG_HOME/usher``, else
    ``~/.config/usher``."""
    for name in ("USHER_CONFIG_HOME", "USHER_STATE_HOME"):
        if given := os.environ.get(name):
            return Path(given).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "usher"


def known() -> list[Connection]:
    """All of them, the newest last. Raises ConnectionsError."""
    path = config_home() / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Connection)}
        # A newer version's fields are left out rather than refused.
        rows = data["connections"]
        return [Connection(**{k: str(v) for k, v in row.items() if k in names}) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConnectionsError(f"{path} can't be read ({error}); repair or remove it") from error


def remember(connection: Connection) -> None:
    """Adds it, or replaces the one of the same LMS and name. Raises ConnectionsError."""
    with _alone():
        kept = [found for found in known() if found.key != connection.key]
        _write([*kept, connection])


def verified(key: tuple[str, str]) -> None:
    """Notes that every check of this connection passed now."""
    with _alone():
        _write([replace(each, verified=now()) if each.key == key else each for each in known()])


def forget(place: str, name: str = "") -> None:
    """Removes the connection ``name`` of the LMS in ``place``, or all of that LMS without a name.

    place: Tutor's root, or the folder of an embedded LMS.
    """
    if not config_home().is_dir():
        return
    with _alone():
        _write([each for each in known() if each.key[0] != place or name not in ("", each.name)])


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time changes the file, so that none loses what another has written."""
    home = config_home()
    home.mkdir(parents=True, exist_ok=True)
    folder = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(connections: Iterable[Connection]) -> None:
    """Replaces the file, or removes it when there is nothing to keep. Call it within _alone()."""
    file = config_home() / _FILE
    rows = [asdict(each) for each in connections]
    if rows:
        data = {"version": _VERSION, "connections": rows}
        write_private(file, (json.dumps(data, indent=1) + "\n").encode())
    else:
        file.unlink(missing_ok=True)
    # A process that was killed while it wrote has left its temporary file.
    for leftover in file.parent.glob(f".{_FILE}.*"):
        leftover.unlink(missing_ok=True)
