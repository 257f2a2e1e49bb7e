"""Recognises how a project runs, from its files, folders and commands."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from usher.contract.environment import Env

#: The files in which docker compose looks for services, the preferred one first.
COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
#: The folder of ``usher dev``, relative to the project.
DEV_FOLDER = Path(".usher") / "dev"
#: The programs that run manage.py in a process of this machine, so that stopping the program stops
#: the server. Other programs, such as ``docker exec`` or ``ssh``, leave the server running
#: elsewhere.
_LOCAL_PROGRAM = re.compile(r"(python[\d.]*|manage\.py|uv|poetry|pipenv)$")


def has_compose_file(folder: Path) -> bool:
    return any((folder / name).is_file() for name in COMPOSE_FILES)


def runs_here(manage: Sequence[str]) -> bool:
    """Whether this command certainly runs manage.py in a process of this machine, not in a
    container. manage: the words of the command."""
    return bool(manage) and bool(_LOCAL_PROGRAM.search(manage[0]))


def advice_about_parent(folder: Path) -> str:
    """A sentence that names the nearest folder above ``folder`` with a ``manage.py``; '' without
    one."""
    for parent in folder.absolute().parents:
        if (parent / "manage.py").is_file():
            return f"Run the command in {parent}."
    return ""


def is_lms_of_dev(home: Path, address: str) -> bool:
    """Whether the LMS at this address is the one of ``usher dev`` in the folder ``home``."""
    # Needs python-dotenv, which the LMS client, whose errors use this module, is installed without.
    from usher.contract.envfile import EnvFile, EnvFileError

    with suppress(EnvFileError, OSError):
        address_of_dev = EnvFile.read(home / "env").get(Env.OPENEDX_API_BASE_URL) or ""
        return bool(address) and address.rstrip("/") == address_of_dev.rstrip("/")
    return False


def how_to_use_lms_of_dev() -> str:
    """A sentence that says how a shell in this folder uses the LMS of ``usher dev``; "" if there is
    none, or if its settings can't be read, because another user runs it."""
    file = DEV_FOLDER / "env"
    if not os.access(file, os.R_OK):
        return ""
    return f"To use the LMS of `usher dev`, load its settings in this shell first: `. {file}`"


def is_locked(file: Path) -> bool:
    """Whether a process holds the lock on this file. While ``usher dev`` or ``usher demo`` runs,
    the command holds the lock on the file ``lock`` in its folder."""
    with suppress(FileNotFoundError), file.open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def project_folder(base_dir: str | Path | None) -> Path:
    """The folder of ``manage.py``: ``BASE_DIR`` or its parent folder; ``BASE_DIR`` if neither has a
    ``manage.py``. base_dir: None for the current folder. ``startproject`` derives ``BASE_DIR`` from
    the path of the settings file, so ``BASE_DIR`` is one folder too deep if the settings are a
    package."""
    base = Path(base_dir or ".")
    candidates = (folder for folder in (base, base.parent) if (folder / "manage.py").exists())
    return next(candidates, base)
