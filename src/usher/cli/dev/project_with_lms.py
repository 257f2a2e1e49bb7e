"""A Django project and an embedded LMS that is connected to it, as processes that stop together."""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from usher.cli.demo import connection, prepared
from usher.cli.demo.browser import Browser
from usher.cli.demo.credentials import Credentials
from usher.cli.demo.errors import DemoError
from usher.cli.demo.processes import RunningServers, ServerProcess, require_free_port
from usher.cli.dev.project import Project
from usher.contract.envfile import write_private
from usher.contract.environment import ALL_KEYS, Env
from usher.contract.oauth import DEFAULT_BACKEND, social_login_path
from usher.contract.paths import LmsPath
from usher.embedded.home.folder import FolderError, manage

#: Different host names, so that browsers keep the cookies of project and LMS apart.
PROJECT_HOST, LMS_HOST = "localhost", "127.0.0.1"
#: Seconds in which the learner must be enrolled.
_ENROLLED_WITHIN = 60.0
#: Settings that stay the project's own: with another key, stored tokens could not be decrypted.
_KEPT = {Env.USHER_ENCRYPTION_KEYS}


@dataclass(frozen=True)
class Learner:
    """The test learner in the project. login: what to type at the project's sign-in page; '' if the
    learner could not be created, and then without says why."""

    login: str
    password: str = field(repr=False)
    without: str = ""


class ProjectWithLms(RunningServers):
    """The project, its worker and the LMS. The LMS's data, secrets and logs are kept in ``home``: a
    later run with the same folder continues with the same LMS."""

    def __init__(self, project: Project, home: Path, port: int, lms_port: int) -> None:
        super().__init__()
        self.project = project
        self.home = home.resolve()
        self.url = f"http://{PROJECT_HOST}:{port}"
        self.lms_url = f"http://{LMS_HOST}:{lms_port}"
        self._port, self._lms_port = port, lms_port
        self.credentials = Credentials.empty()
        self.learner = Learner("", "")
        self._username = ""
        self._celery = ""

    @classmethod
    def found(cls, folder: Path, home: Path) -> ProjectWithLms:
        """The one of an earlier run in ``home``, which may still be running. Raises DemoError if
        there was none."""
        try:
            recorded = prepared.recorded(home)
            ports = [urlsplit(str(recorded[name])).port or 0 for name in ("url", "lms_url")]
        except (ValueError, KeyError) as error:
            raise DemoError(
                f"{home} has no LMS of `usher dev` yet. Run `usher dev` once to create it."
            ) from error
        return cls(Project.at(folder), home, *ports)

    def restore(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Steps, as in ``steps``, that restore the settings and records of project and LMS. Data
        and learners stay."""
        self.credentials = Credentials.load_or_make(self.home)
        self.project.environment = self._environment()
        self._keep_environment()
        yield "lms", self._provision
        yield "connected", lambda: self._connect_project(recheck=False)

    @property
    def lms_home(self) -> Path:
        return self.home / "lms"

    def open(self) -> None:
        """Creates and locks the folder, and makes or loads the secrets. Raises DemoError if another
        run uses the folder or a port is taken."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)  # secrets, logs, and databases with sessions
        if not (ignored := self.home / ".gitignore").exists():
            ignored.write_text("*\n")
        lock = (self.home / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DemoError(
                f"`usher dev` is already running for {self.project.folder}. "
                "Use that one, or stop it with Ctrl-C first."
            ) from error
        self._lock = lock
        require_free_port(self._port, "your project", "--port")
        require_free_port(self._lms_port, "the LMS", "--lms-port")
        self.credentials = Credentials.load_or_make(self.home)
        self.project.environment = self._environment()
        self._keep_environment()

    def _environment(self) -> dict[str, str]:
        """The project's settings for this LMS. Settings of the connection that are not among them
        are emptied: the project's ``.env`` may have them for another LMS."""
        unset = {key: "" for key in ALL_KEYS if key not in _KEPT}
        return {
            **unset,
            **connection.environment(self.lms_url, self.credentials),
            "SITE_BASE_URL": self.url,
            "OIDC_RSA_PRIVATE_KEY": _kept_key(self.home / "oidc_rsa_private_key.pem"),
            "USHER_EDX_OAUTH_SECRET": self.credentials.lms_client_secret,
            "USHER_TEST_LEARNER_PASSWORD": self.credentials.learner_password,
        }

    @property
    def environment_file(self) -> Path:
        return self.home / "env"

    def _keep_environment(self) -> None:
        """Writes the settings to a file for the shell: after ``. .usher/dev/env``, manage.py uses
        this LMS. The file contains secrets."""
        lines = [
            f"export {name}={shlex.quote(value)}\n"
            for name, value in sorted(self.project.environment.items())
        ]
        write_private(self.environment_file, "".join(lines).encode())

    # -- steps

    def steps(self, *, recheck: bool) -> Iterator[tuple[str, Callable[[], str]]]:
        """(name, action) of each step, in order. An action returns one line for people, or raises
        DemoError. recheck: also create accounts that the database has from another LMS."""
        yield "project", self._check_project
        yield "lms", self._make_lms
        yield "connected", lambda: self._connect_project(recheck)
        yield "servers", self._start
        if self.learner.login:
            yield "learner", self._wait_for_learner
            yield "sign-in", self._sign_in

    def _check_project(self) -> str:
        wanted = {
            key: self.project.environment[key]
            for key in (*connection.environment("", self.credentials), "SITE_BASE_URL")
        }
        found = self.project.ask("check", wanted)
        if found["problem"]:
            raise DemoError(
                f"{found['problem']}\nThen run `usher dev` again. The guide is docs/integrate.md "
                "in Usher's repository."
            )
        if found["unread"]:
            raise DemoError(
                f"settings.py sets {', '.join(found['unread'])} itself, so your project would not "
                "use the LMS of this command. Remove these settings from settings.py: "
                "defaults.apply() reads them from the environment."
            )
        self._celery = str(found["celery"])
        return f"settings of {self.project.name} are complete"

    def _make_lms(self) -> str:
        if prepared.is_prepared(self.home, self._fingerprint()):
            return f"embedded LMS of the earlier run in {self.lms_home}"
        return self._provision()

    def _provision(self) -> str:
        connection.make_lms(self.lms_home, self.lms_url, self.url)
        described = connection.describe(self.project.name, self.url, self.credentials)
        try:
            manage(self.lms_home, "seed_courses")
            manage(self.lms_home, "usher_provision", "--file", "-", text=described.to_json())
        except FolderError as error:
            raise DemoError(str(error)) from error
        return "embedded LMS with two courses"

    def _connect_project(self, recheck: bool) -> str:
        is_new = not (self.home / prepared.FILE_NAME).exists()
        found = self.project.ask("prepare", self.credentials.lms_client_id, is_new and not recheck)
        if found["foreign"]:
            raise DemoError(
                f"Your project's database has {found['foreign']} accounts of another LMS. No "
                "record was changed. Use another database, or create these accounts in the new LMS "
                "too: usher dev --recheck."
            )
        if recheck:
            self._manage("reconcile", "--recheck", allow_failure=True)
        self.learner = Learner(
            found["login"], self.credentials.learner_password, found["without_learner"]
        )
        prepared.note(
            self.home,
            self._fingerprint(),
            project=str(self.project.folder),
            url=self.url,
            lms_url=self.lms_url,
        )
        return "tables migrated; OAuth2 client, two course runs and a learner created"

    def _start(self) -> str:
        self._start_all([self._lms(), self._application(), self._worker()])
        return f"{self.project.name} {self.url}, LMS {self.lms_url}, worker"

    def _wait_for_learner(self) -> str:
        deadline = time.monotonic() + _ENROLLED_WITHIN
        while True:
            self.check()
            found = self.project.ask("state")
            if found["problems"]:
                raise DemoError("The LMS refused: " + " ".join(found["problems"]))
            if found["account"] and found["token"] and not found["waiting"]:
                courses, self._username = len(found["settled"]), found["username"]
                return f"LMS account {found['username']}, enrolled in {courses} courses"
            if time.monotonic() > deadline:
                errors = " ".join(dict.fromkeys(found["errors"]))
                raise DemoError(
                    f"The learner is not enrolled in the LMS after {_ENROLLED_WITHIN:.0f} s: "
                    f"{errors or 'no attempt of the worker failed.'} See {self.home}/worker.log."
                )
            time.sleep(0.2)

    def _sign_in(self) -> str:
        """With a session in the project, signs in to the LMS and opens the dashboard."""
        session = self.project.ask("session")
        browser = Browser()
        try:
            # Python's cookie jar adds .local to a host name without a dot.
            domain = f"{PROJECT_HOST}.local"
            browser.client.cookies.set(session["cookie"], session["session"], domain)
            browser.get(self.lms_url + social_login_path(DEFAULT_BACKEND))
            page = browser.get(self.lms_url + LmsPath.DASHBOARD)
            greeted = page.url.path == LmsPath.DASHBOARD and self._username in page.text
            if page.status_code != 200 or not greeted:
                raise DemoError(
                    f"Signing in to the LMS ended at {page.url} ({page.status_code}), not at the "
                    f"learner's dashboard; see {self.home}/project.log and lms.log."
                )
        finally:
            browser.close()
        return "the learner signs in to the LMS through your project"

    # -- processes

    def _application(self) -> ServerProcess:
        return self._process(
            "project",
            self.project.command("runserver", f"127.0.0.1:{self._port}"),
            self.url + "/health/live",
        )

    def _worker(self) -> ServerProcess:
        """The worker as the project runs it in production: Celery if it has a broker."""
        if not self._celery:
            return self._process("worker", self.project.command("reconcile", "--watch"))
        celery = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            self._celery,
            "worker",
            "--beat",
            "-l",
            "INFO",
        ]
        schedule = str(self.home / "beat-schedule")
        return self._process("worker", [*celery, "--concurrency", "2", "--schedule", schedule])

    def _process(self, name: str, command: list[str], ready_url: str = "") -> ServerProcess:
        return ServerProcess(
            name=name,
            command=command,
            folder=self.project.folder,
            environment={**self.project.environment, "PYTHONUNBUFFERED": "1"},
            log=self.home / f"{name}.log",
            ready_url=ready_url,
        )

    def _lms(self) -> ServerProcess:
        return ServerProcess(
            name="lms",
            command=[
                *(sys.executable, "-m", "usher.embedded", "serve", str(self.lms_home)),
                *("--port", str(self._lms_port)),
            ],
            folder=self.lms_home,
            environment={"USHER_LMS_HOME": str(self.lms_home), "DJANGO_SETTINGS_MODULE": ""},
            log=self.home / "lms.log",
            ready_url=self.lms_url + LmsPath.HEARTBEAT,
        )

    def _manage(self, *arguments: str, allow_failure: bool) -> None:
        done = subprocess.run(
            self.project.command(*arguments),
            cwd=self.project.folder,
            env={**os.environ, **self.project.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and not allow_failure:
            raise DemoError(f"`manage.py {arguments[0]}` failed: {done.stderr[-2000:]}")

    # -- data of an earlier run

    def _fingerprint(self) -> str:
        """Changes with the addresses and secrets, and if the LMS's database is deleted."""
        has_database = (self.lms_home / "db.sqlite3").exists()
        return prepared.fingerprint(
            self.url, self.lms_url, repr(self.credentials), str(has_database)
        )


def _kept_key(path: Path) -> str:
    """The key that signs ID tokens and sign-outs, as PEM on one line. It is made once and kept in
    the file ``path``."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    try:
        return path.read_text()
    except FileNotFoundError:
        pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        text = pem.decode().strip().replace("\n", "\\n")
        write_private(path, text.encode())
        return text
