"""The connections that ``usher connect`` has made for this user of this machine.

``usher status`` lists them; ``doctor``, ``disconnect`` and other commands take their defaults from
them. The connections are kept in one JSON file, mode 0600, which holds paths and addresses and no
secrets.
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

#: How the LMS is run.
TUTOR, EMBEDDED = "tutor", "embedded"
_FILE = "connections.json"
_VERSION = 1


class ConnectionsError(ValueError):
    """The file can't be read; the message names it and what to do."""


@dataclass(frozen=True)
class Connection:
    """One application connected to one LMS.

    name, title: the application's name in the LMS, and for people. edition: its edition's name, or
    ''. application: folder of its checkout, or its address if it runs elsewhere. manage: the
    command line to which a management command is appended, such as ``python manage.py``. url,
    server_url: the application's addresses for browsers and for the LMS's server, as given on the
    command line; '' if they were detected. lms_url, lms_server_url: the LMS's addresses for
    browsers and for the application's server. lms: ``tutor`` or ``embedded``. lms_home: folder of
    an embedded LMS. tutor: path of the executable; tutor_root, mode: Tutor's root and mode.
    connected, verified: ISO times in UTC, '' for never.
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
        """The identity of a connection: the folder of the LMS, and the application's name."""
        return self.tutor_root or self.lms_home, self.name


def config_home() -> Path:
    """``USHER_CONFIG_HOME``, else ``USHER_STATE_HOME``, else ``$XDG_CONFIG_HOME/usher``, else
    ``~/.config/usher``."""
    for name in ("USHER_CONFIG_HOME", "USHER_STATE_HOME"):
        if folder := os.environ.get(name):
            return Path(folder).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "usher"


def read_all() -> list[Connection]:
    """All connections, the newest last. Raises ConnectionsError when the file can't be read."""
    path = config_home() / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Connection)}
        # Fields of a newer version are ignored.
        rows = data["connections"]
        return [Connection(**{k: str(v) for k, v in row.items() if k in names}) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConnectionsError(f"{path} can't be read ({error}); repair or remove it") from error


def remember(connection: Connection) -> None:
    """Adds the connection, or replaces the one with the same key. Raises ConnectionsError."""
    with _lock_file():
        other_connections = [other for other in read_all() if other.key != connection.key]
        _write([*other_connections, connection])


def mark_verified(key: tuple[str, str]) -> None:
    """Records that every check of this connection passed now. Raises ConnectionsError."""
    with _lock_file():
        _write(
            [
                replace(connection, verified=now()) if connection.key == key else connection
                for connection in read_all()
            ]
        )


def forget(place: str, name: str = "") -> None:
    """Removes the connection ``name`` of the LMS in ``place``; without a name, all of that LMS.

    place: Tutor's root, or the folder of an embedded LMS. Raises ConnectionsError.
    """
    if not config_home().is_dir():
        return
    with _lock_file():
        _write(
            [
                connection
                for connection in read_all()
                if connection.key[0] != place or name not in ("", connection.name)
            ]
        )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _lock_file() -> Iterator[None]:
    """Lets only one process at a time change the file. Otherwise one could overwrite another's
    changes."""
    home = config_home()
    home.mkdir(parents=True, exist_ok=True)
    folder = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(connections: Iterable[Connection]) -> None:
    """Replaces the file, or removes it if there are no connections. Call it within _lock_file()."""
    file = config_home() / _FILE
    rows = [asdict(connection) for connection in connections]
    if rows:
        data = {"version": _VERSION, "connections": rows}
        write_private(file, (json.dumps(data, indent=1) + "\n").encode())
    else:
        file.unlink(missing_ok=True)
    # A process that was killed while it wrote has left its temporary file.
    for leftover in file.parent.glob(f".{_FILE}.*"):
        leftover.unlink(missing_ok=True)
