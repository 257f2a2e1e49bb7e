"""From what the operator names to places: a checkout, an address, an embedded LMS, a Tutor root."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from usher.contract.editions import EDITIONS
from usher.contract.envfile import EnvFile, EnvFileError
from usher.doctor.context import OWN_ADDRESSES, Places
from usher.doctor.facts.commands import Command

#: A file that only that checkout has.
_COMPOSE_FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


class NotFoundError(ValueError):
    """What was named isn't there; the message says what to name instead."""


@dataclass(frozen=True)
class Wishes:
    """The command line. application: a folder or an address. manage: runs its manage.py."""

    lms_url: str = ""
    application: str = ""
    env_file: Path | None = None
    manage: str = ""
    lms_home: Path | None = None
    tutor_root: Path | None = None
    tutor_mode: str = "local"
    token: str = ""


def places(wishes: Wishes) -> Places:
    """Raises NotFoundError."""
    folder, url = _application(wishes.application)
    env_file = wishes.env_file or (folder / ".env" if folder else None)
    lms_manage = None
    if wishes.lms_home:
        if not (wishes.lms_home / "manage.py").is_file():
            raise NotFoundError(f"{wishes.lms_home} has no manage.py: it is no embedded LMS")
        lms_manage = Command((sys.executable, "manage.py", "lms"), wishes.lms_home)
    return Places(
        lms_url=wishes.lms_url,
        application_url=url or _own_address(folder, env_file),
        env_file=env_file,
        manage=_manage(wishes.manage, folder, env_file),
        lms_manage=lms_manage,
        tutor_root=wishes.tutor_root,
        tutor_mode=wishes.tutor_mode,
        token=wishes.token,
    )


def _application(named: str) -> tuple[Path | None, str]:
    if not named:
        return None, ""
    if urlsplit(named).scheme in ("http", "https"):
        return None, named.rstrip("/")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise NotFoundError(f"{named} is neither a folder nor an address such as http://host:8013")
    return folder.resolve(), ""


def _manage(given: str, folder: Path | None, env_file: Path | None) -> Command | None:
    """docker compose where there is a compose file, else this Python; CAMPUS_ENV_FILE is how the
    reference application is told its ``.env``."""
    environment = {"CAMPUS_ENV_FILE": str(env_file.resolve())} if env_file else {}
    if given:
        return Command(tuple(shlex.split(given)), folder, environment)
    if folder is None:
        return None
    if any((folder / name).is_file() for name in _COMPOSE_FILES):
        words = ("docker", "compose", "exec", "-T", "web", "./manage.py")
        return Command(words, folder)
    if (folder / "manage.py").is_file():
        return Command((sys.executable, "manage.py"), folder, environment)
    return None


def _own_address(folder: Path | None, env_file: Path | None) -> str:
    """The application's browser address by its ``.env``, or by what checkout it is."""
    try:
        values = EnvFile.read(env_file).values() if env_file else {}
    except (EnvFileError, OSError):
        values = {}
    for name in OWN_ADDRESSES:
        if urlsplit(values.get(name, "")).scheme in ("http", "https"):
            return values[name].rstrip("/")
    texts = [(folder / name) for name in _COMPOSE_FILES] if folder else []
    written = "".join(path.read_text(errors="replace") for path in texts if path.is_file())
    for edition in EDITIONS.values():
        if edition.host in written or (edition is EDITIONS["mitxpro"] and "MITXPRO_" in written):
            return edition.root_url
    return ""
