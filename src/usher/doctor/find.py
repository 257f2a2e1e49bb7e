"""Finds the installation that the operator names by a checkout, an address, a demo or a Tutor root.

If nothing is named, looks for a demo of this checkout and for the application in this folder. Also
looks for an LMS of ``usher dev`` for this project, and for the Tutor root that ``tutor`` uses.
"""

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

import usher
from usher.contract.connections import Connection, ConnectionsError, read_all
from usher.contract.editions import EDITIONS
from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.environment import Env
from usher.contract.folders import (
    COMPOSE_FILES,
    DEV_FOLDER,
    advice_about_parent,
    has_compose_file,
    is_lms_of_dev,
    is_locked,
)
from usher.doctor.context import OWN_ADDRESSES, Places
from usher.doctor.facts.commands import Command, CommandError

#: The checkout of Usher that this module belongs to.
_CHECKOUT = Path(usher.__file__).resolve().parents[2]
#: The LMS's port in Tutor's dev mode.
_DEV_PORT = 8000


class NotFoundError(ValueError):
    """A given path or address does not exist; the message says what to give instead."""


class NothingHereError(NotFoundError):
    """Nothing is named, and nothing is found in this folder."""


@dataclass(frozen=True)
class DoctorOptions:
    """The options of the command line. application: a folder or an address, or the home of a demo.
    manage: the command that runs the application's manage.py. tutor_mode: '' to detect it. tutor:
    the executable. url: the application's address, if another is in its settings."""

    lms_url: str = ""
    application: str = ""
    env_file: Path | None = None
    manage: str = ""
    lms_home: Path | None = None
    tutor_root: Path | None = None
    tutor_mode: str = ""
    token: str = field(default="", repr=False)
    tutor: str = ""
    url: str = ""

    @property
    def name_no_installation(self) -> bool:
        return not any((self.lms_url, self.application, self.lms_home, self.tutor_root))


def find_places(options: DoctorOptions) -> Places:
    """Returns the installation that the options name; without such options, the installation that
    belongs to the current folder. Raises NotFoundError."""
    if options.name_no_installation:
        options = _options_from_folder(options)
    else:
        options = _with_stored_connection(options)
    folder, url = _folder_and_url(options.application)
    if folder and _is_demo_folder(folder):
        return _demo_places(folder, options)
    if folder and (home := _dev_home(folder, options)):
        return _dev_places(home, options)
    env_file = options.env_file or (folder / ".env" if folder else None)
    manage = _manage_command(options.manage, folder, env_file)
    if folder and env_file and manage is None and not env_file.exists():
        raise NotFoundError(
            f"{folder} has neither a manage.py nor a .env. Name the folder of your project's "
            "manage.py, or the command that runs it with --manage."
        )
    values = _env_file_values(env_file)
    application_url = (
        options.url
        or url
        or _application_url(folder, values)
        or _application_url_from_tutor(options.tutor_root)
    )
    return Places(
        lms_url=options.lms_url,
        application_url=application_url,
        env_file=env_file,
        manage=manage,
        lms_manage=_embedded_lms_command(options.lms_home) if options.lms_home else None,
        tutor_root=options.tutor_root,
        tutor_mode=options.tutor_mode or _tutor_mode(values),
        tutor_executable=options.tutor or "tutor",
        token=options.token,
    )


def _options_from_folder(options: DoctorOptions) -> DoctorOptions:
    """Completes the options with the first of these that exists: in the current folder a demo, an
    LMS of ``usher dev`` in use, a connected application, another application with settings of an
    LMS, or an LMS of ``usher dev`` not in use; then the last connection; then the root that
    ``tutor`` uses. An application that is not connected gets that root as well. Raises
    NothingHereError."""
    here = Path.cwd()
    if demo := _newest_demo(here):
        return replace(options, application=str(demo))
    dev_home = here / DEV_FOLDER
    if _is_dev_folder(dev_home) and _dev_is_in_use(dev_home):
        return replace(options, application=str(dev_home))
    if connection := _connection_of(here):
        return _with_connection(options, connection)
    if (here / "manage.py").is_file() and _has_lms_settings(here):
        return replace(options, application=str(here), tutor_root=_default_tutor_root())
    if _is_dev_folder(dev_home):
        return replace(options, application=str(dev_home))
    if connections := _stored_connections():
        return _with_connection(options, connections[-1])
    if tutor_root := _default_tutor_root():
        return replace(options, tutor_root=tutor_root)
    raise NothingHereError(_nothing_found_message(here))


def _newest_demo(folder: Path) -> Path | None:
    """The folder of the demo in this checkout that was started last; None without a demo."""
    return next(iter(_demos(folder)), None)


def _demos(folder: Path) -> list[Path]:
    """The folders of the demos in this checkout; first the one that was started last."""
    demos = [demo for demo in sorted((folder / ".demo").glob("*")) if _is_demo_folder(demo)]
    return sorted(demos, key=lambda demo: (demo / "lock").stat().st_mtime, reverse=True)


def _default_tutor_root() -> Path | None:
    """The root that ``tutor`` uses by default; None if it does not exist, or without ``tutor``."""
    if not shutil.which("tutor"):
        return None
    try:
        root = Path(Command(("tutor",)).output("config", "printroot").strip())
    except CommandError:
        return None
    return root if (root / "config.yml").is_file() else None


def _dev_is_in_use(home: Path) -> bool:
    """Whether ``usher dev`` runs, or this process has its settings, as after
    ``. .usher/dev/env``."""
    has_its_settings = is_lms_of_dev(home, os.environ.get(Env.OPENEDX_API_BASE_URL, ""))
    return is_locked(home / "lock") or has_its_settings


def _has_lms_settings(folder: Path) -> bool:
    """Whether the environment or the ``.env`` in ``folder`` has settings of a connection to an LMS.
    True if the ``.env`` can't be read, so that a check reports the reason."""
    if any(name.startswith(_SETTING_PREFIX) for name in os.environ):
        return True
    try:
        return _SETTING_PREFIX.encode() in (folder / ".env").read_bytes()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _nothing_found_message(folder: Path) -> str:
    if (folder / "manage.py").is_file():
        has_file = (folder / ".env").is_file()
        return (
            "This project is not connected to an LMS: "
            f"{'its .env has no OPENEDX_… settings' if has_file else 'it has no .env'}, and "
            "there is no LMS of `usher dev`. For an embedded LMS, run:\n$ usher dev\n"
            "For the Open edX that Tutor runs on this machine:\n$ usher connect --application ."
        )
    if advice := advice_about_parent(folder):
        return f"{folder} has no manage.py. {advice}"
    return (
        "No connection was made from here, and there is no demo, application or Tutor root in "
        "this folder. Go to the folder of your project's manage.py, or name it:\n"
        "$ usher doctor --application FOLDER\n"
        "If it has no LMS yet, run `usher dev` or `usher connect` there. To check an LMS without "
        "an application, name it with --tutor-root or --lms."
    )


# -- connections that usher connect has made


def _stored_connections() -> list[Connection]:
    """All connections that ``usher connect`` has saved. Raises NotFoundError if the file can't be
    read."""
    try:
        return read_all()
    except ConnectionsError as error:
        raise NotFoundError(str(error)) from error


def _connection_of(folder: Path) -> Connection | None:
    """The newest connection of the application in this folder or a folder above it; None without
    one."""
    connections_here = [
        connection
        for connection in _stored_connections()
        if connection.application and folder.is_relative_to(Path(connection.application))
    ]
    return connections_here[-1] if connections_here else None


def connection_notice(options: DoctorOptions) -> str:
    """Returns a sentence that names the connection or demo that is checked, or ''. The operator
    needs it if the options name no installation, and there are several connections or demos, or the
    only connection belongs to another folder."""
    if not options.name_no_installation:
        return ""
    if demos := [str(demo.relative_to(Path.cwd())) for demo in _demos(Path.cwd())]:
        return _demo_notice(demos)
    all_connections = _stored_connections()
    completed = _options_from_folder(options)
    place = (completed.application, completed.url)
    matches = [
        connection
        for connection in all_connections
        if (connection.application, connection.url) == place
    ]
    if not matches:
        return ""  # a demo, or an application that usher connect has not connected
    connection = matches[-1]
    title = connection.title or connection.name
    if len(all_connections) == 1 and _connection_of(Path.cwd()):
        return ""
    if len(all_connections) == 1:
        return f"Checking {title}, {connection.application or connection.url}"
    other_applications = [
        other.application
        for other in all_connections
        if other.application not in ("", connection.application)
    ]
    alternatives = " or ".join(dict.fromkeys(other_applications)) or "its address"
    return (
        f"Checking {title}, one of {len(all_connections)} connections. To check another: "
        f"--application {alternatives}"
    )


def _demo_notice(demos: list[str]) -> str:
    """The sentence that names the demo that is checked; '' if it is the only one. demos: their
    folders, the newest first."""
    newest, *others = demos
    if not others:
        return ""
    return (
        f"Checking {newest}, the newest of {len(demos)} demos. To check another: "
        f"--application {' or '.join(others)}"
    )


def _with_stored_connection(options: DoctorOptions) -> DoctorOptions:
    """Completes the options from the newest connection of the same application, if there is one."""
    if not options.application or urlsplit(options.application).scheme in ("http", "https"):
        application = options.application.rstrip("/")
    else:
        application = str(Path(options.application).expanduser().resolve())
    matches = [
        connection
        for connection in _stored_connections()
        if application and application in (connection.application, connection.url)
    ]
    return _with_connection(options, matches[-1]) if matches else options


def _with_connection(options: DoctorOptions, connection: Connection) -> DoctorOptions:
    """Completes the options from a connection; leaves out its LMS if the operator names another."""
    names_lms = options.lms_url or options.lms_home or options.tutor_root
    connected_lms: dict[str, Any] = {}
    if not names_lms:
        connected_lms = {
            "lms_url": connection.lms_url,
            "lms_home": Path(connection.lms_home) if connection.lms_home else None,
            "tutor_root": Path(connection.tutor_root) if connection.tutor_root else None,
        }
    return replace(
        options,
        application=options.application or connection.application,
        manage=options.manage or connection.manage,
        env_file=options.env_file or (Path(connection.env_file) if connection.env_file else None),
        tutor_mode=options.tutor_mode or connection.mode,
        tutor=options.tutor or connection.tutor,
        url=options.url or connection.url,
        **connected_lms,
    )


# -- the demo


def _is_demo_folder(folder: Path) -> bool:
    parts = ("application/.env", "lms/lms.env.yml", "lock")
    return all((folder / part).is_file() for part in parts)


def _demo_places(home: Path, options: DoctorOptions) -> Places:
    """The application and the LMS of ``usher demo``. The LMS's settings have the application's
    address."""
    settings = yaml.safe_load((home / "lms/lms.env.yml").read_text(encoding="utf-8"))
    logout_urls = settings.get("USHER_LOGOUT_URIS") or [""]
    url = logout_urls[0].removesuffix("/logout/")
    env_file = home / "application" / ".env"
    environment = {
        "CAMPUS_ENV_FILE": str(env_file),
        "CAMPUS_HOME": str(env_file.parent),
        "SITE_BASE_URL": url,
    }
    return Places(
        lms_url=options.lms_url or str(settings.get("LMS_ROOT_URL", "")),
        application_url=url,
        env_file=env_file,
        manage=Command((sys.executable, "manage.py"), _CHECKOUT / "campus", environment),
        lms_manage=_embedded_lms_command(home / "lms"),
        token=options.token,
        demo_home=home,
    )


# -- usher dev

#: The names of all settings of a connection begin with this.
_SETTING_PREFIX = "OPENEDX_"


def _is_dev_folder(home: Path) -> bool:
    return all((home / part).is_file() for part in ("env", "prepared.json", "lms/manage.py"))


def _dev_home(folder: Path, options: DoctorOptions) -> Path | None:
    """Returns the folder of ``usher dev``; None if another LMS is examined.

    ``folder`` is either this folder itself, or a project. In a project, ``usher dev`` is not
    examined if the operator or the project's ``.env`` names another LMS.
    """
    if _is_dev_folder(folder):
        return folder
    names_lms = options.env_file or options.lms_url or options.lms_home or options.tutor_root
    home = folder / DEV_FOLDER
    if names_lms or not _is_dev_folder(home):
        return None
    is_examined = _dev_is_in_use(home) or not _has_lms_settings(folder)
    return home if is_examined else None


def _dev_places(home: Path, options: DoctorOptions) -> Places:
    """A project and its LMS of ``usher dev``. Raises NotFoundError."""
    try:
        project = Path(json.loads((home / "prepared.json").read_text())["project"])
    except (OSError, ValueError, KeyError, TypeError):
        raise NotFoundError(
            f"{home} was written by an older `usher dev`: run `usher dev` once more."
        ) from None
    env_file = home / "env"
    values = _env_file_values(env_file)
    return Places(
        lms_url=options.lms_url or values.get(Env.OPENEDX_BASE_REDIRECT_URL, ""),
        application_url=options.url or _application_url(project, values),
        env_file=env_file,
        manage=Command((sys.executable, "manage.py"), project, env_file=env_file),
        lms_manage=_embedded_lms_command(home / "lms"),
        token=options.token,
        dev_home=home,
    )


def _embedded_lms_command(home: Path) -> Command:
    """The command ``manage.py lms`` of the embedded LMS in ``home``. Raises NotFoundError without
    one."""
    if not (home / "manage.py").is_file():
        raise NotFoundError(f"{home} is not the folder of an embedded LMS: it has no manage.py")
    return Command((sys.executable, "manage.py", "lms"), home)


# -- an application


def _folder_and_url(application: str) -> tuple[Path | None, str]:
    """Returns the option ``--application`` as a folder and '', or as None and an address; without
    the option, None and ''. Raises NotFoundError if it is neither a folder nor an address."""
    if not application:
        return None, ""
    if urlsplit(application).scheme in ("http", "https"):
        return None, application.rstrip("/")
    folder = Path(application).expanduser()
    if not folder.is_dir():
        raise NotFoundError(
            f"{application} is neither a folder nor an address such as http://host:8013"
        )
    return folder.resolve(), ""


def _env_file_values(env_file: Path | None) -> dict[str, str]:
    """The values in the ``.env``; empty without a file, or if it can't be read: a check reports the
    reason."""
    try:
        return EnvFile.read(env_file).values() if env_file else {}
    except (EnvFileError, OSError):
        return {}


def _manage_command(option: str, folder: Path | None, env_file: Path | None) -> Command | None:
    """The command that runs manage.py: in the running container if there is a compose file, else
    with this Python. A container gets the ``.env`` from docker compose. CAMPUS_ENV_FILE names the
    reference application's ``.env``."""
    # Without a folder, ``option`` may run the reference application.
    is_campus = folder is None or (folder / "campus" / "settings.py").is_file()
    environment = {}
    if env_file and is_campus:
        environment["CAMPUS_ENV_FILE"] = str(env_file.resolve())
    if option:
        words = tuple(shlex.split(option))
        in_container = words[:2] == ("docker", "compose")
        return Command(words, folder, environment, env_file=None if in_container else env_file)
    if folder is None:
        return None
    if has_compose_file(folder):
        return Command(("docker", "compose", "exec", "-T", "web", "./manage.py"), folder)
    if (folder / "manage.py").is_file():
        return Command((sys.executable, "manage.py"), folder, environment, env_file)
    return None


def _application_url(folder: Path | None, values: dict[str, str]) -> str:
    """The application's address for browsers, from its ``.env`` or its edition; '' if neither is
    known."""
    for name in OWN_ADDRESSES:
        if urlsplit(values.get(name, "")).scheme in ("http", "https"):
            return values[name].rstrip("/")
    # A compose file has the edition's host name, or variables that begin with the edition's name.
    paths = [(folder / name) for name in COMPOSE_FILES] if folder else []
    compose_text = "".join(path.read_text(errors="replace") for path in paths if path.is_file())
    for edition in EDITIONS.values():
        if edition.host in compose_text or edition.name.upper() + "_" in compose_text:
            return edition.root_url
    return ""


def _application_url_from_tutor(root: Path | None) -> str:
    """The address of the first application in the plugin's configuration; '' if there is none."""
    try:
        config = yaml.safe_load((root / "config.yml").read_text()) if root else None
        application = (config or {}).get("USHER_APPLICATIONS", [])[0]
        edition = EDITIONS.get(application.get("name", ""))
    except (OSError, yaml.YAMLError, IndexError, AttributeError, TypeError):
        return ""
    root_url = application.get("root_url") or (edition.root_url if edition else "")
    return str(root_url).rstrip("/")


def _tutor_mode(values: dict[str, str]) -> str:
    """Tutor's mode, according to the LMS's port in the settings: 8000 in dev mode only."""
    try:
        port = urlsplit(values.get(Env.OPENEDX_API_BASE_URL, "")).port
    except ValueError:
        return "local"
    return "dev" if port == _DEV_PORT else "local"
