"""Checkouts with the tables and commands of MITx Online and MIT xPro, run with this Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

SUPPORT = Path(__file__).parent
#: Seconds for the application's server to answer: many, since other tests may keep the machine
#: busy.
START_SECONDS = 300
#: Settings that a stand-in needs to start.
REQUIRED = {
    "SECRET_KEY": "django-secret",
    "MAILGUN_SENDER_DOMAIN": "mail.example",
    "MAILGUN_KEY": "mail-key",
    "OPENEDX_API_CLIENT_ID": "application-client",
    "OPENEDX_API_CLIENT_SECRET": "application-secret",
}
#: Stand-in → name of the setting with the application's address.
BASE_URL = {"mitxonline": "MITX_ONLINE_BASE_URL", "mitxpro": "MITXPRO_BASE_URL"}
#: Stand-in → name of the setting with the e-mail address of the staff.
ADMIN_EMAIL = {"mitxonline": "MITX_ONLINE_ADMIN_EMAIL", "mitxpro": "MITXPRO_ADMIN_EMAIL"}

#: The folder of migrated databases: a file for each stand-in, with its name.
_MIGRATED = tempfile.TemporaryDirectory()
#: For each line of standard input, a script as JSON: runs it, and prints its variable ``result`` or
#: the traceback.
_RUN_SCRIPTS = """
import json, sys, traceback
for line in sys.stdin:
    scope = {}
    try:
        exec(json.loads(line), scope)
    except Exception:
        print("failed:" + json.dumps(traceback.format_exc()), flush=True)
    else:
        print("result:" + json.dumps(scope["result"], default=str), flush=True)
"""


class StandIn:
    """An application with the tables and commands of MITx Online or MIT xPro: a copy of
    ``<name>_stand_in`` in ``folder`` with a ``.env``. settings: further settings for it."""

    def __init__(self, folder: Path, name: str, **settings: str) -> None:
        self.folder, self.name = folder, name
        self._shell: subprocess.Popen[str] | None = None
        shutil.copytree(
            SUPPORT / f"{name}_stand_in", folder, ignore=shutil.ignore_patterns("__pycache__")
        )
        self.values = {
            **REQUIRED,
            BASE_URL[name]: "http://127.0.0.1:1",
            ADMIN_EMAIL[name]: "staff@example.org",
            **settings,
        }
        self.env_file = folder / ".env"
        self.change_settings()
        self._migrate()

    def _migrate(self) -> None:
        """Creates the database. In each process, only the first database of an application is
        migrated, which takes seconds; later ones are copies. If DATABASE_URL is set, its database
        is always migrated."""
        migrated, database = Path(_MIGRATED.name) / self.name, self.folder / "db.sqlite3"
        if "DATABASE_URL" not in self.values and migrated.exists():
            shutil.copyfile(migrated, database)
            return
        self.manage("migrate", "--verbosity", "0")
        if "DATABASE_URL" not in self.values:
            shutil.copyfile(database, migrated)

    def change_settings(self, **values: str) -> None:
        """Adds or changes settings in the application's ``.env``. The next ``run`` uses them."""
        self.close()
        self.values |= values
        lines = [f"{name}={value}\n" for name, value in self.values.items()]
        self.env_file.write_text("".join(lines))
        self.env_file.chmod(0o600)

    @property
    def manage_command(self) -> str:
        """The value of the option ``--manage``."""
        return f"{sys.executable} manage.py"

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Runs a management command and returns its output. Raises AssertionError if it fails."""
        result = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.environment(),
            check=False,
        )
        assert result.returncode == 0, (
            f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        )
        return result.stdout

    def environment(self) -> Mapping[str, str]:
        inherited = dict(os.environ)
        inherited.pop("DJANGO_SETTINGS_MODULE", None)  # that of the tests' own Django
        return {**inherited, **self.values}

    def run(self, script: str) -> Any:
        """Runs Python in the application and returns the script's variable ``result``. The value is
        passed as JSON; values of other types arrive as strings. Raises AssertionError with the
        traceback if the script fails.

        One process runs all scripts, because starting Django takes longer than most of them.
        """
        if self._shell is None:
            self._shell = subprocess.Popen(
                [sys.executable, "manage.py", "shell", "-c", _RUN_SCRIPTS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.folder,
                env=self.environment(),
            )
        assert self._shell.stdin
        assert self._shell.stdout
        self._shell.stdin.write(json.dumps(script) + "\n")
        self._shell.stdin.flush()
        for line in self._shell.stdout:
            mark, _, answer = line.partition(":")
            if mark == "result":
                return json.loads(answer)
            assert mark != "failed", json.loads(answer)
        raise AssertionError("the application's shell ended")

    @contextmanager
    def running_server(self, port: int) -> Iterator[str]:
        """Serves the application with its own development server. Yields the application's
        address."""
        command = ["runserver", "--noreload", f"127.0.0.1:{port}"]
        server = subprocess.Popen(
            [sys.executable, "manage.py", *command],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for_answer(url, server)
            yield url
        finally:
            server.kill()
            server.wait()

    def close(self) -> None:
        """Ends the process that runs scripts. The next ``run`` starts a new one."""
        if self._shell is not None:
            self._shell.kill()
            self._shell.wait()
            self._shell = None


def _wait_for_answer(url: str, server: subprocess.Popen[bytes]) -> None:
    """Waits until the server answers. Raises AssertionError if it ends, or after
    ``START_SECONDS``."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(url + "/", trust_env=False)
        except httpx.TransportError:
            assert server.poll() is None, f"the server at {url} ended"
            assert time.monotonic() < deadline, f"no answer at {url}"
            time.sleep(0.05)
        else:
            return
