"""The reference application and the embedded LMS in one folder, joined, as real server processes.

The demo, the browser journeys and doctor's tests all use this one pair.
"""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from usher.cli.demo import joining
from usher.cli.demo.credentials import Credentials
from usher.cli.demo.errors import DemoError
from usher.cli.demo.processes import ServerProcess, free_port, require_free_port
from usher.cli.demo.setup import SetUp, Step
from usher.contract.editions import EDITIONS, Edition

LMS_PORT = 8000
#: Which pair a folder holds: edition and ports.
KEPT = "pair.json"
#: Different host names, so that each side keeps its own cookies, as on two real hosts.
APPLICATION_HOST = "localhost"
LMS_HOST = "127.0.0.1"
SERVER_THREADS = "16"


@dataclass(frozen=True)
class Addresses:
    application_port: int
    lms_port: int

    @property
    def application(self) -> str:
        return f"http://{APPLICATION_HOST}:{self.application_port}"

    @property
    def lms(self) -> str:
        return f"http://{LMS_HOST}:{self.lms_port}"


def checkout_folder() -> Path:
    """The folder that holds ``campus/``. Raises DemoError where Usher was installed without it."""
    folder = Path(__file__).resolve().parents[4]
    if not (folder / "campus" / "manage.py").is_file():
        raise DemoError(
            "The demo runs the reference application, which is part of Usher's source and was not "
            f"found in {folder}. Clone the repository and run `make demo` there."
        )
    return folder


class Pair:
    """Both sides in ``home``: ``home/application`` and ``home/lms``, each with its own database.

    Without ports, free ones are taken. Use it as a context manager, or call :meth:`prepare`,
    :meth:`start` and :meth:`stop`. Everything it makes stays in ``home``; run again on the same
    folder it finds the same data.
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
        self.home = home.resolve()
        self.edition = edition
        self.addresses = Addresses(application_port or free_port(), lms_port or free_port())
        self.campus_folder = checkout_folder() / "campus"
        self.application_home = self.home / "application"
        self.lms_home = self.home / "lms"
        self.env_file = self.application_home / ".env"
        self.extra_environment = dict(extra_environment or {})
        self.credentials = Credentials.empty()
        self._lock: IO[str] | None = None
        self._servers: list[ServerProcess] = []

    @classmethod
    def found(cls, home: Path) -> "Pair":
        """The pair that was last run in ``home``. Raises DemoError when there is none."""
        try:
            kept = json.loads((home / KEPT).read_text())
            edition = EDITIONS[kept["edition"]]
            ports = {"application_port": kept["application_port"], "lms_port": kept["lms_port"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DemoError(f"No demo was run in {home}. Start one with `usher demo`.") from error
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
        return {
            "CAMPUS_ENV_FILE": str(self.env_file),
            "CAMPUS_EDITION": self.edition.name,
            "CAMPUS_HOME": str(self.application_home),
            "SITE_BASE_URL": self.application_url,
            # Mail goes to files, so that the walk can open it; by default it goes to the console.
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": str(self.mail_folder),
            **self.extra_environment,
        }

    @property
    def mail_folder(self) -> Path:
        return self.application_home / "mail"

    def newest_mail(self, address: str) -> str:
        """The text of the newest mail to ``address``; '' when there is none."""
        files = sorted(self.mail_folder.glob("*.log"), key=lambda file: file.stat().st_mtime_ns)
        texts = (file.read_text() for file in reversed(files))
        return next((text for text in texts if f"To: {address}" in text), "")

    @property
    def lms_environment(self) -> dict[str, str]:
        return {"USHER_LMS_HOME": str(self.lms_home), **self.extra_environment}

    # -- life cycle

    def check_ports(self) -> None:
        """Raises DemoError when a port is taken, before anything is touched."""
        if self.addresses.application_port == self.addresses.lms_port:
            raise DemoError(
                f"{self.edition.title} and the LMS can't both have the port "
                f"{self.addresses.lms_port}. Nothing was started. Choose another with --lms-port."
            )
        require_free_port(self.addresses.application_port, self.edition.title, "--application-port")
        require_free_port(self.addresses.lms_port, "the LMS", "--lms-port")

    def lock(self) -> None:
        """Raises DemoError when another run uses this folder. The system frees it at our end."""
        self.home.mkdir(parents=True, exist_ok=True)
        lock = (self.home / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise DemoError(
                f"A run is already up in {self.home} ({holder}). Nothing was started. "
                "Use that one, or stop it with Ctrl-C first."
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()}, {self.application_url} and {self.lms_url}\n")
        lock.flush()
        self._lock = lock

    def prepare(self, report: Callable[[Step], None] = lambda step: None) -> None:
        """Prepares application and LMS; finished steps are skipped."""
        kept = {"edition": self.edition.name, **asdict(self.addresses)}
        (self.home / KEPT).write_text(json.dumps(kept))
        SetUp(self, report).run()

    def start(self) -> None:
        """Start both servers and the worker. If one of them can't start, all stop."""
        self._servers = [self._lms_server(), self._application_server(), self._engine()]
        try:
            for server in self._servers:
                server.start()
            for server in self._servers:
                server.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Raises DemoError when one of the servers has died."""
        for server in self._servers:
            server.check()

    def stop(self) -> None:
        for server in reversed(self._servers):
            server.stop()
        self._servers = []
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def server(self, name: str) -> ServerProcess:
        """One of ``lms``, ``application``, ``engine``: to stop and start it in a test."""
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
        """Standard output of the application's ``manage.py``; DemoError when it fails.

        extra: more environment, for secrets, which arguments would show to everybody.
        """
        return self._manage(
            [sys.executable, "manage.py", *arguments],
            self.campus_folder,
            {**self.application_environment, **(extra or {})},
            stdin,
        )

    def manage_lms(self, *arguments: str, stdin: str = "") -> str:
        """Standard output of the LMS's ``manage.py lms``; DemoError when it fails."""
        return self._manage(
            [sys.executable, "manage.py", "lms", *arguments],
            self.lms_home,
            self.lms_environment,
            stdin,
        )

    def initialize_lms(self) -> None:
        """Make the LMS folder, or update an older one."""
        joining.make_lms(self.lms_home, self.lms_url, self.application_url)

    def _manage(
        self, command: list[str], folder: Path, environment: Mapping[str, str], stdin: str
    ) -> str:
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
            shown = " ".join(command[1:])
            said = _in_short(result.stderr or result.stdout)
            raise DemoError(
                f"`{shown}` failed with exit code {result.returncode}: {said}\n"
                f"If the data are broken, move {self.home} away: it is made anew."
            )
        return result.stdout

    # -- servers

    def _application_server(self) -> ServerProcess:
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

    def _lms_server(self) -> ServerProcess:
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

    def _engine(self) -> ServerProcess:
        return ServerProcess(
            name="engine",
            command=[sys.executable, "manage.py", "reconcile", "--watch"],
            folder=self.campus_folder,
            environment=self.application_environment,
            log=self.home / "worker.log",
        )


def _in_short(output: str) -> str:
    """What a command said when it failed; of a traceback, its last line."""
    said = output.strip()
    if "Traceback (most recent call last)" in said:
        return said.splitlines()[-1]
    return said[-2000:]
