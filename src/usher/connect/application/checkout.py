"""Detects which application ``--application`` names, from its files or its address alone."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from usher.connect.errors import Refused
from usher.contract.editions import EDITIONS, MITXONLINE, MITXPRO, Edition
from usher.contract.folders import COMPOSE_FILES, runs_here

#: The compose service that runs ./manage.py in MITx Online and MIT xPro.
WEB_SERVICE = "web"
#: Edition → a file, relative to manage.py, that a checkout of the edition has.
MARKS: dict[Edition, str] = {
    MITXONLINE: "courses/management/commands/sync_courserun.py",
    MITXPRO: "courses/management/commands/sync_courseruns.py",
}


@dataclass(frozen=True)
class ApplicationOptions:
    """The operator's options for one application; '' for values to detect.

    target: the path of the checkout, or the application's address; url: the address for browsers;
    server_url: the address for the LMS's containers; manage: the command that runs the
    application's manage.py; env_file: the path of its ``.env``.
    """

    target: str
    edition: str = ""
    backend: str = ""
    name: str = ""
    manage: str = ""
    env_file: str = ""
    url: str = ""
    server_url: str = ""


@dataclass(frozen=True)
class Checkout:
    """An application, as detected from its files.

    folder: None if only the application's address is known; manage: argv before the name of a
    management command, empty if manage.py can't be run; compose: whether docker compose runs the
    application; url: '' if only the application's own settings have the address.
    """

    name: str
    title: str
    edition: Edition | None
    folder: Path | None
    env_file: Path | None
    manage: tuple[str, ...]
    compose: bool
    url: str
    #: The example file. A dry run reads it if there is no ``.env``; a real run would create the
    #: ``.env`` from it.
    example: Path | None = None

    @property
    def settings_file(self) -> Path | None:
        """The file to read the settings from: the example if it is used, else the ``.env``."""
        return self.example or self.env_file

    @property
    def runs_here(self) -> bool:
        """Whether the application runs in processes of this machine; False if it runs in containers
        or on another machine."""
        return runs_here(self.manage)

    @property
    def sync_command(self) -> tuple[str, ...]:
        """The edition's command that reads course runs from the LMS; () without an edition."""
        return self.edition.sync_command if self.edition else ()


def recognise(options: ApplicationOptions) -> Checkout:
    """Returns the application that the options name. Raises Refused, naming the missing option."""
    if urlsplit(options.target).scheme in ("http", "https"):
        return _at_address(options)
    folder = _folder_of(options)
    edition = _edition_of(folder, options)
    manage, compose = _manage_of(folder, options)
    return Checkout(
        name=_name_of(options, edition, folder.name),
        title=edition.title if edition else folder.name,
        edition=edition,
        folder=folder,
        env_file=Path(options.env_file).expanduser().absolute()
        if options.env_file
        else folder / ".env",
        manage=manage,
        compose=compose,
        url=options.url.rstrip("/"),
    )


def check_exists(options: ApplicationOptions) -> None:
    """Raises Refused if the options name a folder that does not exist."""
    if urlsplit(options.target).scheme not in ("http", "https"):
        _folder_of(options)


def _folder_of(options: ApplicationOptions) -> Path:
    """Returns the folder that the options name. Raises Refused if it does not exist."""
    folder = Path(options.target).expanduser()
    if not folder.is_dir():
        raise Refused(f"{options.target} is neither a folder nor an http address")
    return folder.resolve()


def _at_address(options: ApplicationOptions) -> Checkout:
    """Returns an application that has no folder on this machine. Its manage.py can be run only with
    the command in ``--manage``. Raises Refused."""
    url = options.target.rstrip("/")
    parts = urlsplit(url)
    if not parts.hostname or parts.query or parts.fragment:
        raise Refused(f"{options.target} is not the address of an application")
    edition = _named_edition(options) or next(
        (candidate for candidate in EDITIONS.values() if candidate.root_url == url), None
    )
    return Checkout(
        name=_name_of(options, edition, parts.hostname.split(".")[0]),
        title=edition.title if edition else parts.netloc,
        edition=edition,
        folder=None,
        env_file=Path(options.env_file).expanduser().absolute() if options.env_file else None,
        manage=tuple(shlex.split(options.manage)),
        compose=False,
        url=options.url.rstrip("/") or url,
    )


def _edition_of(folder: Path, options: ApplicationOptions) -> Edition | None:
    """Returns the edition that the files show, else the edition in ``--edition``, else None. Raises
    Refused if ``--edition`` contradicts the files."""
    detected = next(
        (candidate for candidate, mark in MARKS.items() if (folder / mark).is_file()), None
    )
    option = _named_edition(options)
    if detected and option and detected is not option and _is_upstream(folder, detected):
        raise Refused(
            f"{folder} is a checkout of {detected.title}, but --edition says {option.title}; "
            f"leave --edition out, or give the checkout of {option.title}"
        )
    if detected and _is_upstream(folder, detected):
        return detected
    return option


def _is_upstream(folder: Path, edition: Edition) -> bool:
    """Whether this is a checkout of ``edition`` itself: its files name the edition's URL setting.

    The file in MARKS alone proves nothing: another application may have a command of the same name.
    """
    key = {MITXONLINE: "MITX_ONLINE_BASE_URL", MITXPRO: "MITXPRO_BASE_URL"}[edition]
    files = [folder / name for name in (*COMPOSE_FILES, "app.json", "pyproject.toml")]
    return any(key in file.read_text(errors="replace") for file in files if file.is_file())


def _named_edition(options: ApplicationOptions) -> Edition | None:
    return EDITIONS[options.edition] if options.edition else None


def _name_of(options: ApplicationOptions, edition: Edition | None, fallback: str) -> str:
    """Returns the name in ``--name``, else the edition's, else one made from ``fallback``. Raises
    Refused."""
    name = options.name or (edition.name if edition else fallback.lower())
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not name:
        raise Refused(f"no valid name can be derived from {fallback!r}; give one with --name")
    return name


def _manage_of(folder: Path, options: ApplicationOptions) -> tuple[tuple[str, ...], bool]:
    """Returns the argv before a management command, and whether docker compose runs it. Raises
    Refused."""
    if options.manage:
        manage = tuple(shlex.split(options.manage))
        return manage, manage[:2] == ("docker", "compose")
    if not (folder / "manage.py").is_file():
        raise Refused(
            f"{folder} has no manage.py; name the command that runs it with --manage, "
            "for example --manage 'python src/manage.py'"
        )
    if _has_web_service(folder):
        command = ("docker", "compose", "run", "--rm", "-T", WEB_SERVICE, "./manage.py")
        return command, True
    for parent in (folder, folder.parent):
        for environment in (".venv", "venv"):
            python = parent / environment / "bin" / "python"
            if python.exists():
                return (str(python), "manage.py"), False
    raise Refused(
        f"{folder} has neither a compose file with a {WEB_SERVICE!r} service nor a .venv; name the "
        "command that runs its manage.py, for example --manage '/path/to/venv/bin/python manage.py'"
    )


def _has_web_service(folder: Path) -> bool:
    """Whether the folder's compose file has the service ``web``. Raises Refused if the file isn't
    YAML."""
    for name in COMPOSE_FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            data = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise Refused(f"{file} is not YAML: {_problem_of(error)}") from error
        services = data.get("services") if isinstance(data, dict) else None
        return isinstance(services, dict) and WEB_SERVICE in services
    return False


def _problem_of(error: yaml.YAMLError) -> str:
    """Returns the line and the problem, for people."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"line {mark.line + 1}: {problem}" if mark else problem
