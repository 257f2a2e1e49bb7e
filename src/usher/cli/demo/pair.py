"""The reference application and an embedded LMS: connected, in one folder, as server processes.

The demo, the tests with a browser and doctor's tests use this pair.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from usher.cli.demo import connection
from usher.cli.demo.credentials import Credentials
from usher.cli.demo.errors import DemoError, NotStarted
from usher.cli.demo.processes import RunningServers, ServerProcess, free_port, require_free_port
from usher.cli.demo.setup import SetUp, Step
from usher.contract.editions import EDITIONS, Edition
from usher.contract.envfile import write_exports

#: The default port of the LMS.
LMS_PORT = 8000
#: Name of the file, in the pair's folder, with its edition and ports.
FILE_NAME = "pair.json"
#: Different host names, so that browsers keep the cookies of the application and the LMS apart.
APPLICATION_HOST = "localhost"
LMS_HOST = "127.0.0.1"
#: The number of threads of the application's server.
SERVER_THREADS = "16"


@dataclass(frozen=True)
class Addresses:
    """The addresses of the application and the LMS on this machine."""

    application_port: int
    lms_port: int

    @property
    def application(self) -> str:
        return f"http://{APPLICATION_HOST}:{self.application_port}"

    @property
    def lms(self) -> str:
        return f"http://{LMS_HOST}:{self.lms_port}"


def checkout_folder() -> Path:
    """The folder with ``campus/`` in it. Raises NotStarted if Usher was installed without it."""
    folder = Path(__file__).resolve().parents[4]
    if not (folder / "campus" / "manage.py").is_file():
        raise NotStarted(
            "The demo runs the reference application, which is part of Usher's source and was not "
            f"found in {folder}. Clone the repository and run `make demo` there."
        )
    return folder


class Pair(RunningServers):
    """An application in ``home/application`` and an LMS in ``home/lms``, with separate databases.

    Free ports are chosen if none are given. extra_environment: variables for the application and
    the LMS. Use it as a context manager, or call :meth:`lock`, :meth:`prepare`, :meth:`start`
    and :meth:`stop`. The data stay in ``home``, so a later pair with the same folder has the same
    data.
    """

    def __init__(
        self,
        home: Path,
        edition: Edition,
        *,
        application_port: int | None = None,
        lms_port: int | None = None,
        extra_environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.home = home.resolve()
        self.edition = edition
        self.addresses = Addresses(application_port or free_port(), lms_port or free_port())
        self.campus_folder = checkout_folder() / "campus"
        self.application_home = self.home / "application"
        self.lms_home = self.home / "lms"
        #: The application's settings; ``environment_file`` is a file for the shell.
        self.env_file = self.application_home / ".env"
        self.extra_environment = dict(extra_environment or {})
        self.credentials = Credentials.empty()

    @classmethod
    def existing(cls, home: Path) -> "Pair":
        """The pair that was last started in ``home``. Raises NotStarted if there was none."""
        try:
            saved = json.loads((home / FILE_NAME).read_text())
            edition = EDITIONS[saved["edition"]]
            ports = {"application_port": saved["application_port"], "lms_port": saved["lms_port"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotStarted(f"No demo was run in {home}. Start one with `usher demo`.") from error
        return cls(home, edition, **ports)

    # -- addresses and environments

    @property
    def application_url(self) -> str:
        return self.addresses.application

    @property
    def lms_url(self) -> str:
        return self.addresses.lms

    @property
    def application_environment(self) -> dict[str, str]:
        """Variables for the application's processes."""
        return {
            "CAMPUS_ENV_FILE": str(self.env_file),
            "CAMPUS_EDITION": self.edition.name,
            "CAMPUS_HOME": str(self.application_home),
            "SITE_BASE_URL": self.application_url,
            # Mail is written to files, so that the test learner can read it.
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": str(self.mail_folder),
            **self.extra_environment,
        }

    @property
    def environment_file(self) -> Path:
        """A file of exports for the shell: after ``. .demo/mitxonline/env``, manage.py uses this
        application."""
        return self.home / "env"

    @property
    def mail_folder(self) -> Path:
        return self.application_home / "mail"

    def newest_mail(self, address: str) -> str:
        """The text of the newest mail to ``address``; '' if there is none."""
        files = sorted(self.mail_folder.glob("*.log"), key=lambda file: file.stat().st_mtime_ns)
        texts = (file.read_text() for file in reversed(files))
        return next((text for text in texts if f"To: {address}" in text), "")

    @property
    def lms_environment(self) -> dict[str, str]:
        """Variables for the LMS's processes."""
        return {"USHER_LMS_HOME": str(self.lms_home), **self.extra_environment}

    # -- life cycle

    def check_ports(self) -> None:
        """Raises NotStarted if a port is taken, or both are the same. Call it before anything is
        changed."""
        if self.addresses.application_port == self.addresses.lms_port:
            raise NotStarted(
                f"{self.edition.title} and the LMS can't both have the port "
                f"{self.addresses.lms_port}. Nothing was started. Choose another with --lms-port."
            )
        require_free_port(self.addresses.application_port, self.edition.title, "--application-port")
        require_free_port(self.addresses.lms_port, "the LMS", "--lms-port")

    def lock(self) -> None:
        """Locks the folder until :meth:`stop` or the end of this process. Raises NotStarted if
        another process uses it."""
        self.home.mkdir(parents=True, exist_ok=True)
        lock = (self.home / "lock").open("a+")  # keeps the text of the process that holds the lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise NotStarted(
                f"A demo is already running in {self.home} ({holder}). Nothing was started. "
                "Use the running demo, or stop it with Ctrl-C first."
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, {self.application_url} and {self.lms_url}\n")
        lock.flush()
        self._lock = lock

    def prepare(
        self,
        report: Callable[[Step], None] = lambda step: None,
        begin: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Writes the file that ``existing`` reads and the file for the shell. Then sets up the
        application and the LMS, unless an earlier start has done this. report: called after each
        step. begin: called with the name of each step before it. Raises DemoError."""
        saved = {"edition": self.edition.name, **asdict(self.addresses)}
        (self.home / FILE_NAME).write_text(json.dumps(saved))
        write_exports(self.environment_file, self.application_environment)
        SetUp(self, report, begin).run()

    def start(self) -> None:
        """Starts both servers and the worker. If one of them can't start, all are stopped. Raises
        DemoError."""
        try:
            self._start_all(
                [
                    self._create_lms_server(),
                    self._create_application_server(),
                    self._create_worker(),
                ]
            )
        except BaseException:
            self.stop()
            raise

    def server(self, name: str) -> ServerProcess:
        """The process ``lms``, ``application`` or ``worker``, to stop and start it in a test."""
        return next(server for server in self._servers if server.name == name)

    def __enter__(self) -> "Pair":
        self.lock()
        self.prepare()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- management commands

    def manage_application(
        self, *arguments: str, stdin: str = "", extra: Mapping[str, str] | None = None
    ) -> str:
        """Runs the application's ``manage.py`` and returns its standard output. Raises DemoError if
        it fails.

        extra: more environment variables. Pass secrets this way, because every user of the machine
        can see arguments.
        """
        return self._run_manage(
            [sys.executable, "manage.py", *arguments],
            self.campus_folder,
            {**self.application_environment, **(extra or {})},
            stdin,
        )

    def manage_lms(self, *arguments: str, stdin: str = "") -> str:
        """Runs the LMS's ``manage.py lms`` and returns its standard output. Raises DemoError if it
        fails."""
        return self._run_manage(
            [sys.executable, "manage.py", "lms", *arguments],
            self.lms_home,
            self.lms_environment,
            stdin,
        )

    def initialize_lms(self) -> None:
        """Creates the folder of the LMS, or updates an older one. Raises DemoError."""
        connection.make_lms(self.lms_home, self.lms_url, self.application_url)

    def _run_manage(
        self, command: list[str], folder: Path, environment: Mapping[str, str], stdin: str
    ) -> str:
        """Runs the command and returns its standard output. Raises DemoError if it fails."""
        result = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            input=stdin,
            text=True,
            capture_output=True,
            check=False,
        )
        if result.returncode != 0:
            command_text = " ".join(command[1:])
            error_text = _end_of(result.stderr or result.stdout)
            raise DemoError(
                f"`{command_text}` failed with exit code {result.returncode}: {error_text}\n"
                f"If the data are broken, move {self.home} away: the next start makes new data."
            )
        return result.stdout

    # -- servers

    def _create_application_server(self) -> ServerProcess:
        return ServerProcess(
            name="application",
            command=[
                *(sys.executable, "-m", "granian", "--interface", "wsgi"),
                *("--host", "127.0.0.1", "--port", str(self.addresses.application_port)),
                *("--blocking-threads", SERVER_THREADS, "--no-ws"),
                "campus.wsgi:application",
            ],
            folder=self.campus_folder,
            environment=self.application_environment,
            log=self.home / "application.log",
            ready_url=self.application_url + "/health/live",
        )

    def _create_lms_server(self) -> ServerProcess:
        return ServerProcess(
            name="lms",
            command=[
                *(sys.executable, "-m", "usher.embedded", "serve", str(self.lms_home)),
                *("--port", str(self.addresses.lms_port)),
            ],
            folder=self.lms_home,
            environment=self.lms_environment,
            log=self.home / "lms.log",
            ready_url=self.lms_url + "/heartbeat",
        )

    def _create_worker(self) -> ServerProcess:
        return ServerProcess(
            name="worker",
            command=[sys.executable, "manage.py", "reconcile", "--watch"],
            folder=self.campus_folder,
            environment=self.application_environment,
            log=self.home / "worker.log",
        )


def _end_of(output: str) -> str:
    """The end of a failed command's output; of a traceback only the last line."""
    text = output.strip()
    if "Traceback (most recent call last)" in text:
        return text.splitlines()[-1]
    return text[-2000:]
