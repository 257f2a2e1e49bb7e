"""Creates, configures and runs an embedded LMS in a folder, without Tutor and containers.

The folder has the same files as a Tutor root: ``config.yml`` with the ``USHER_*`` values,
``lms.env.yml`` with the LMS's settings, and ``usher.json`` with the description of its records.
Files with secrets have mode 0600. The package ``usher.embedded`` runs in separate processes.
"""

import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import usher
from usher.connect.errors import Refused, ToolFailed
from usher.connect.openedx import configuration
from usher.connect.openedx.platform import provision_report
from usher.connect.openedx.serving import Server
from usher.connect.process import Runner
from usher.contract import connections
from usher.contract.applications import EntryError
from usher.contract.description import DEFAULTS, lms_settings
from usher.contract.envfile import write_private
from usher.contract.provisioning import Description, DescriptionError

#: The default port, as in MITx Online's default OPENEDX_API_BASE_URL.
PORT = 18000
#: A host name of this machine: the machine itself resolves it by DNS, and containers of MITx Online
#: and MIT xPro resolve it by a line in their compose files.
CONTAINER_HOST = "local.openedx.io"
#: Features that the Tutor plugin sets in addition to ``lms_settings``.
_FEATURES = {"ALLOW_PUBLIC_ACCOUNT_CREATION": True, "SKIP_EMAIL_VALIDATION": True}
#: Some packages of the extra ``embedded``, as they are imported.
_REQUIRED_PACKAGES = ("django", "granian", "oauth2_provider", "social_django", "waffle")
#: The file with the fingerprint of the Usher that created or updated the folder.
_FINGERPRINT_FILE = "made-of.txt"


def check_installed() -> None:
    """Raises Refused if packages that the embedded LMS needs are not installed."""
    missing = [name for name in _REQUIRED_PACKAGES if find_spec(name) is None]
    if missing:
        raise Refused(
            f"the embedded LMS needs packages that are not installed here ({', '.join(missing)}). "
            "Install them with: pip install 'openedx-usher[embedded]'"
        )


class EmbeddedLms:
    """The embedded LMS in the folder ``home``.

    url: its address, with the port; open_to_containers: whether it listens on every interface of
    this machine, which containers need.
    """

    def __init__(self, home: Path, url: str, runner: Runner, *, open_to_containers: bool) -> None:
        self.folder = home
        self.lms_url = url
        self.in_cluster = False
        host = "0.0.0.0" if open_to_containers else "127.0.0.1"  # noqa: S104 - asked for
        self.server = Server(home, host, _port(url))
        self._runner = runner
        #: Secrets for a config.yml that has none yet.
        self._new_secrets = {key: secrets.token_hex(32) for key in configuration.GENERATED}
        #: The cached report of ``preview``, or its error; None if nothing is cached.
        self._preview: dict[str, Any] | ToolFailed | None = None

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yml"

    @property
    def description_file(self) -> Path:
        """The description of the LMS's records, with every id and secret."""
        return self.folder / "usher.json"

    @property
    def exists(self) -> bool:
        """Whether the folder has an LMS, of this or another version of Usher."""
        return is_lms(self.folder)

    @property
    def is_current(self) -> bool:
        """Whether the folder has an LMS of this version and installation of Usher."""
        file = self.folder / _FINGERPRINT_FILE
        return self.exists and file.read_bytes() == _fingerprint().encode()

    @property
    def is_plugin_enabled(self) -> bool:
        """Whether an application was connected, as the rendered description shows. An embedded LMS
        has no plugin that could be disabled."""
        return self.description_file.is_file()

    @property
    def logs_command(self) -> str:
        return self._runner.as_typed(["tail", "-n", "100", str(self.server.log)])

    def render_command(self) -> str:
        return "usher connect --lms embedded"

    def application_entries(self) -> list[dict[str, Any]]:
        # An embedded LMS has no plugin whose default could be used.
        report_without_plugin: dict[str, Any] = {"usher": {}, "enabled": []}
        return configuration.application_entries(self.config_file, report_without_plugin)

    def leftovers(self) -> Iterable[str]:
        return ()

    def connection(self) -> dict[str, str]:
        return {"lms": connections.EMBEDDED, "lms_home": str(self.folder)}

    def clear_cache(self) -> None:
        self._preview = None

    # -- its folder and files

    def generated_secrets(self) -> dict[str, str]:
        """Returns the secrets that config.yml must have; present ones are kept."""
        present = configuration.read(self.config_file)
        return {
            key: str(present.get(key) or self._new_secrets[key]) for key in configuration.GENERATED
        }

    def make(self) -> None:
        """Creates the folder with its database and two courses, or migrates an older one."""
        self._init()
        self._manage("seed_courses")
        write_private(self.folder / _FINGERPRINT_FILE, _fingerprint().encode())

    def is_rendered(self) -> bool:
        """Whether ``lms.env.yml`` and ``usher.json`` agree with ``config.yml`` and the LMS's
        address."""
        if not (self.is_current and self.description_file.is_file()):
            return False
        try:
            present = configuration.read(self.folder / "lms.env.yml")
        except Refused:  # malformed; ``render`` replaces it
            return False
        expected = self._settings() | {"LMS_ROOT_URL": self.lms_url}
        is_described = self.description_file.read_bytes() == self._description_json().encode()
        return is_described and all(present.get(key) == value for key, value in expected.items())

    def render(self) -> None:
        """Writes ``lms.env.yml`` and ``usher.json`` from ``config.yml``."""
        self.clear_cache()
        self._init()
        write_private(self.description_file, self._description_json().encode())

    def description(self) -> Description | None:
        """Returns the rendered description; the one that follows from ``config.yml`` if the file is
        malformed; None without a file. Raises Refused."""
        if not self.description_file.is_file():
            return None
        try:
            return Description.from_json(self.description_file.read_text(errors="replace"))
        except DescriptionError:
            return self.description_after({})

    def description_after(self, values: dict[str, Any]) -> Description:
        config = configuration.read(self.config_file)
        return configuration.description_of(self.config_file, config | values)

    def clear(self, *, purge: bool) -> None:
        """Deletes the description, which holds secrets; with ``purge`` the whole folder."""
        if purge:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self.description_file.unlink(missing_ok=True)

    def _full_config(self) -> dict[str, Any]:
        return DEFAULTS | self.generated_secrets() | configuration.read(self.config_file)

    def _description_json(self) -> str:
        return configuration.description_of(self.config_file, self._full_config()).to_json()

    def _settings(self) -> dict[str, Any]:
        """Returns the settings of ``lms.env.yml`` that follow from ``config.yml``. Raises
        Refused."""
        try:
            settings = lms_settings(self._full_config())
        except EntryError as error:
            raise Refused(f"{self.config_file}: {error}") from error
        # Without any application ``settings`` is empty; features then keep the LMS's defaults.
        return {"USHER_BACKENDS": {}, "USHER_LOGOUT_URIS": [], **settings} | (
            {"FEATURES": _FEATURES} if settings else {}
        )

    def _init(self) -> None:
        """Creates or updates the LMS's files and database. The settings are passed through standard
        input, because every user of the machine can read arguments."""
        command = [sys.executable, "-m", "usher.embedded", "init", str(self.folder)]
        options = ["--root-url", self.lms_url, "--settings-file", "-"]
        self._runner.run([*command, *options], stdin=json.dumps(self._settings()))
        self.folder.chmod(0o700)

    # -- its records

    def preview(self) -> dict[str, Any]:
        if self._preview is None:
            try:
                self._preview = self._provision("--dry-run")
            except ToolFailed as error:
                self._preview = error
        if isinstance(self._preview, ToolFailed):
            raise self._preview
        return self._preview

    def provision(self) -> dict[str, Any]:
        self.clear_cache()
        return self._provision()

    def _provision(self, *options: str) -> dict[str, Any]:
        """Runs ``usher_provision`` with the rendered description. Returns its report. Raises
        ToolFailed."""
        description = self.description()
        if description is None:
            raise ToolFailed(f"{self.description_file} was not rendered")
        arguments = ("usher_provision", *options, "--file", "-")
        return provision_report(self._manage(*arguments, stdin=description.to_json()))

    def remove(self, description: Description, *, purge: bool) -> dict[str, Any]:
        self.clear_cache()
        arguments = ["usher_provision", "--remove", *(["--purge"] if purge else []), "--file", "-"]
        return provision_report(self._manage(*arguments, stdin=description.to_json()))

    def _manage(self, *arguments: str, stdin: str = "") -> str:
        return self._runner.run(
            [sys.executable, str(self.folder / "manage.py"), "lms", *arguments], stdin=stdin
        )

    # -- its process

    def restart(self, *, running: bool) -> None:
        self.server.stop()
        self.server.start()


def is_lms(home: Path) -> bool:
    """Whether the folder has an embedded LMS, of this or another version of Usher."""
    return (home / _FINGERPRINT_FILE).is_file()


def url_of(home: Path) -> str:
    """Returns the address of the LMS in this folder; "" if there is none, or if the file that has
    it is malformed."""
    try:
        return str(configuration.read(home / "lms.env.yml").get("LMS_ROOT_URL", ""))
    except Refused:
        return ""


def check_port(url: str) -> None:
    """Raises Refused if another program uses the LMS's port."""
    port = _port(url)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise Refused(
                f"port {port} of the embedded LMS can't be used "
                f"({os.strerror(error.errno or 0)}); stop the program that listens there, or give "
                f"another address: --lms-url http://{urlsplit(url).hostname}:{port + 1}"
            ) from error


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def _fingerprint() -> str:
    """Returns a string that changes with Usher's version, its Python and its migrations."""
    root = Path(usher.__file__).parent
    migrations = sorted(
        str(path.relative_to(root))
        for package in ("embedded", "lms")
        for path in (root / package).rglob("migrations/0*.py")
    )
    return "\n".join([usher.__version__, sys.executable, *migrations])
