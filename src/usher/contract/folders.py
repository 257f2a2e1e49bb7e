"""Files and folders in a project by which commands recognise how it runs."""

from __future__ import annotations

import fcntl
from contextlib import suppress
from pathlib import Path

from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.environment import Env

#: The files in which docker compose looks for services, the preferred one first.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
#: The folder of ``usher dev``, relative to the project.
DEV_FOLDER = Path(".usher") / "dev"


def has_compose_file(folder: Path) -> bool:
    return any((folder / name).is_file() for name in COMPOSE_FILES)


def is_lms_of_dev(home: Path, address: str) -> bool:
    """Whether the LMS at this address is the one of ``usher dev`` in the folder ``home``."""
    with suppress(EnvFileError, OSError):
        of_dev = EnvFile.read(home / "env").get(Env.OPENEDX_API_BASE_URL) or ""
        return bool(address) and address.rstrip("/") == of_dev.rstrip("/")
    return False


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock on this file. In ``lock``, in the folder of ``usher dev`` or
    ``usher demo``, it shows that the command is running."""
    with suppress(FileNotFoundError), file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
