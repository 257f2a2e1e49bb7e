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

from usher.contract.envfile import remove_private, write_private

#: How the LMS is run.
TUTOR, EMBEDDED = "tutor", "embedded"
_FILE = "connections.json"
_VERSION = 1


class ConnectionsError(ValueError):
    """The file can't be read; the message names it and what to do."""


@dataclass(frozen=True)
class Connection:
    """One application connected to one LMS."""

    #: The application's name in the LMS.
    name: str
    #: The folder of the application's checkout; the application's address if it runs elsewhere.
    application: str
    #: The LMS's address for browsers.
    lms_url: str
    #: The application's name for people.
    title: str = ""
    #: The name of the application's edition; '' if it has none.
    edition: str = ""
    #: The LMS's sign-in backend for the application.
    backend: str = ""
    #: The command line to which a management command is appended, such as ``python manage.py``.
    manage: str = ""
    #: The file with the application's settings.
    env_file: str = ""
    #: The application's address for browsers, given on the command line or detected.
    url: str = ""
    #: The application's address for the LMS's server, as given on the command line; '' if it was
    #: detected.
    server_url: str = ""
    #: The LMS's address for the application's server.
    lms_server_url: str = ""
    #: How the LMS is run: ``tutor`` or ``embedded``.
    lms: str = TUTOR
    #: The folder of an embedded LMS.
    lms_home: str = ""
    #: The path of Tutor's executable.
    tutor: str = ""
    #: Tutor's root.
    tutor_root: str = ""
    #: Tutor's mode.
    mode: str = ""
    #: When ``usher connect`` made the connection, ISO, UTC; '' for never.
    connected: str = ""
    #: When every check of the connection last passed, ISO, UTC; '' for never.
    verified: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """The identity of a connection: the folder of the LMS, and the application's name."""
        return self.lms_folder, self.name

    @property
    def lms_folder(self) -> str:
        """Tutor's root, or the folder of an embedded LMS."""
        return self.tutor_root or self.lms_home


def config_home() -> Path:
    """``USHER_CONFIG_HOME``, else ``USHER_STATE_HOME``, else ``$XDG_CONFIG_HOME/usher``, else
    ``~/.config/usher``. Raises ConnectionsError."""
    for name in ("USHER_CONFIG_HOME", "USHER_STATE_HOME"):
        if folder := os.environ.get(name):
            return expand_home(folder)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return expand_home(base) / "usher"


def expand_home(folder: str) -> Path:
    """The path, with the home folder for ``~``. Raises ConnectionsError if that is not known."""
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise ConnectionsError(
            f"the home folder in {folder} is not known; set HOME, or USHER_STATE_HOME to a folder "
            "for Usher's own files"
        ) from error


def read_all() -> list[Connection]:
    """All connections, the newest last. Raises ConnectionsError when the file can't be read."""
    path = config_home() / _FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {field.name for field in fields(Connection)}
        # Fields of a newer version are ignored.
        return [
            Connection(**{name: str(value) for name, value in item.items() if name in names})
            for item in data["connections"]
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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


def forget(lms_folder: str, name: str = "") -> None:
    """Removes the connection ``name`` of one LMS; without a name, all connections of that LMS.

    lms_folder: Tutor's root, or the folder of an embedded LMS. Raises ConnectionsError.
    """
    if not config_home().is_dir():
        return
    with _lock_file():
        _write(
            [
                connection
                for connection in read_all()
                if connection.lms_folder != lms_folder or name not in ("", connection.name)
            ]
        )


def now() -> str:
    """The current time, ISO, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _lock_file() -> Iterator[None]:
    """Lets only one process at a time change the file, so that no process overwrites the changes of
    another one."""
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
    items = [asdict(connection) for connection in connections]
    if items:
        data = {"version": _VERSION, "connections": items}
        write_private(file, (json.dumps(data, indent=1) + "\n").encode())
    else:
        remove_private(file)
