"""Facts about the application: its ``.env``, its answers, and its report."""

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx

from usher.contract.answers import json_object
from usher.contract.application_report import ApplicationReport, Client, RowError, Rows
from usher.contract.envfile import EnvFile, EnvFileError
from usher.contract.environment import Env
from usher.contract.fingerprints import proof_of
from usher.contract.paths import ApplicationPath
from usher.contract.refusals import sentence_of
from usher.doctor.facts.commands import Command
from usher.doctor.facts.memo import NotKnownError, fact
from usher.doctor.facts.web import Web

_REPORT_SCRIPT = "application_script.py"
#: Kind in the report → its name for people.
_KIND_NAMES = {
    "account": "accounts",
    "token": "tokens",
    "enrollment": "enrollments",
    "run": "course runs",
}
_AUTHORIZE_SCRIPT = "authorize_script.py"
#: The word ``.env`` in the texts of checks.
_ENV_FILE_WORD = re.compile(r"(?<![\w/.])\.env(?![\w.])")


@dataclass
class Application:
    """url: its address for browsers. manage: its ``manage.py``. read_report: returns its report in
    this process; used by the application's own staff page instead of ``manage``."""

    web: Web
    url: str
    env_file: Path | None = None
    manage: Command | None = None
    read_report: Callable[[], ApplicationReport] | None = None

    @fact
    def env(self) -> EnvFile:
        """The application's ``.env``. Raises NotKnownError if it is missing or can't be read."""
        if self.env_file is None and self.read_report is None:
            raise NotKnownError("the application's .env is not known: give --application")
        if self.env_file is None:
            raise NotKnownError(
                "`usher doctor` examines the .env, in the folder of the application"
            )
        if not self.env_file.is_file():
            raise NotKnownError(f"{self.env_file} does not exist")
        try:
            return EnvFile.read(self.env_file)
        except EnvFileError as error:
            raise NotKnownError(str(error)) from error

    def with_env_file_name(self, text: str) -> str:
        """Returns ``text`` with ``.env`` replaced by the name of the file that was read."""
        file = self.env_file
        if file is None or file.name == ".env":
            return text
        name = file
        folder = self.manage.folder if self.manage else None
        if folder and file.is_relative_to(folder):
            name = file.relative_to(folder)
        return _ENV_FILE_WORD.sub(lambda _: str(name), text)

    @fact
    def report(self) -> ApplicationReport:
        """The application's report. Raises NotKnownError if it can't be obtained."""
        if self.read_report is not None:
            return _with_error_sentences(self.read_report())
        if self.manage is None:
            raise NotKnownError("the application's manage.py is not known: give --application")
        script = (files(__package__) / _REPORT_SCRIPT).read_text(encoding="utf-8")
        report: ApplicationReport = self.manage.json("shell", stdin=script)
        return _with_error_sentences(report)

    def authorize(self, address: str) -> dict[str, Any]:
        """Requests the authorize page for one of the application's users; no grant is kept.
        address: path and query. Returns ``status`` (None without any user), ``text`` (the body or
        an error) and ``location`` (without the code). Raises NotKnownError."""
        if self.manage is None:
            raise NotKnownError("the application's manage.py is not known: give --application")
        script = (files(__package__) / _AUTHORIZE_SCRIPT).read_text(encoding="utf-8")
        result: dict[str, Any] = self.manage.json("shell", stdin=f"ADDRESS = {address!r}\n{script}")
        return result

    def setting_in_env_file(self, name: str) -> str:
        """A setting's value in the application's ``.env``; '' if there is none."""
        try:
            return self.env.get(name) or ""
        except NotKnownError:
            return ""

    def setting(self, name: str) -> str:
        """A setting's value in the application's ``.env``, else in the running application; '' if
        unknown."""
        if value := self.setting_in_env_file(name):
            return value
        try:
            return str(self.report.get("settings", {}).get(name) or "")
        except NotKnownError:
            return ""

    @fact
    def knows_settings(self) -> bool:
        """Whether there is any source of the application's settings."""
        for source in (lambda: self.env, lambda: self.report):
            try:
                source()
            except NotKnownError:
                continue
            return True
        return False

    @fact
    def running_fingerprints(self) -> dict[str, str]:
        """Fingerprints of the settings in use by the running process; empty if it does not report
        them. The process reports them only to a request with the same service worker's token."""
        proof = proof_of(self.setting_in_env_file(Env.OPENEDX_SERVICE_WORKER_API_TOKEN))
        try:
            data = json_object(self.get(ApplicationPath.HEALTH_READY, token=proof).content)
        except NotKnownError:
            return {}
        fingerprints = data.get("configuration")
        if not isinstance(fingerprints, dict):
            return {}
        # An empty result would mean that the process does not report fingerprints. A process that
        # has none of the settings reports an empty dict; it is replaced by one without a setting.
        return fingerprints or {"": ""}

    def get(self, path: str, token: str = "") -> httpx.Response:
        """Requests a page without following redirects, or returns the cached answer of an earlier
        request. Raises NotKnownError if there is no answer or the address is not known."""
        if not self.url:
            raise NotKnownError("the application's address is not known: give --application")
        return self.web.get(self.url.rstrip("/") + path, token)

    def client(self, client_id: str) -> Client:
        """The OAuth client with this id, as its provider records it. Raises NotKnownError without
        one."""
        for client in self.report.get("clients", []):
            if client.get("client_id") == client_id:
                return client
        raise NotKnownError("the application has no OAuth client with the LMS's client id")

    def rows(self, kind: str) -> Rows:
        """Returns the report's counts and errors of a kind of records, such as ``account``. Raises
        NotKnownError if the application does not report that kind."""
        rows = self.report.get("rows", {})
        if kind not in rows:
            raise NotKnownError(
                f"the application does not report its {_KIND_NAMES.get(kind, kind)}"
            )
        return rows[kind]

    def refusals(self, kind: str, *codes: str) -> list[RowError]:
        """Like ``errors``. Raises NotKnownError if the application is not built on Usher, because
        such an application does not store the codes of the LMS's answers."""
        if not self.report.get("usher"):
            raise NotKnownError(
                f"the application does not record why {_KIND_NAMES[kind]} are refused"
            )
        return self.errors(kind, *codes)

    def errors(self, kind: str, *codes: str) -> list[RowError]:
        """Returns the reported errors of a kind. codes: only these error codes; none for all."""
        errors = self.rows(kind).get("errors", [])
        return [row for row in errors if not codes or row["error_code"] in codes]

    @fact
    def tracked_by_git(self) -> bool:
        """Whether git tracks the ``.env``; False if git can't be run or takes too long. Raises
        NotKnownError without a ``.env``."""
        if self.env_file is None:
            raise NotKnownError("the application's .env is not known: give --application")
        try:
            result = subprocess.run(
                ["git", "ls-files", "--error-unmatch", self.env_file.name],
                cwd=self.env_file.parent,
                capture_output=True,
                timeout=5,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return result.returncode == 0


def _with_error_sentences(report: ApplicationReport) -> ApplicationReport:
    """Returns the report with a sentence as the message of each error: MITx Online stores the LMS's
    whole answer."""
    for rows in report.get("rows", {}).values():
        for error in rows.get("errors", []):
            error["message"] = sentence_of(error.get("message", ""))[:400]
    return report
