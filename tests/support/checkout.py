"""A checkout of an application without Usher, run by a stand-in for ``docker compose``."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from usher.connect.application.checkout import Checkout

SUPPORT = Path(__file__).parent
DOCKER_FOLDER = SUPPORT / "serving_docker"
PYTHON_BIN = Path(sys.executable).parent
#: The folder of the ``usher`` command.
VENV_BIN = Path(os.environ.get("VIRTUAL_ENV") or SUPPORT.parents[1] / ".venv") / "bin"
START_SECONDS = 180.0

#: A script that creates a user. data: the user's fields as JSON.
CREATE_USER_SCRIPT = """
import json, sys
from django.contrib.auth import get_user_model
learner = json.loads({data!r})
get_user_model().objects.create_user(**learner)
"""


def free_port() -> int:
    """A TCP port that no program of this machine listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        _, port = listener.getsockname()
        return int(port)


class PlainCheckout:
    """A copy of ``plainapp`` in ``folder``. state: a folder for the state of its services."""

    def __init__(
        self, folder: Path, state: Path, path: Sequence[Path] = (), database: Path | None = None
    ) -> None:
        """path: folders for PATH, such as the folder of another stand-in for docker. The folder of
        ``serving_docker`` precedes them. database: a migrated database to copy, to save time."""
        self.folder = folder
        self.state = state
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **os.environ,
            "PATH": os.pathsep.join(
                map(str, [DOCKER_FOLDER, *path, PYTHON_BIN, os.environ["PATH"]])
            ),
            "STANDIN_STATE": str(state),
            "USHER_STATE_HOME": str(state / "usher"),
        }
        shutil.copytree(
            SUPPORT / "plainapp", folder, ignore=shutil.ignore_patterns("__pycache__", "README.md")
        )
        # The operator, not Usher, has set the application's address.
        text = (folder / "env.example").read_text()
        self.env_file = folder / ".env"
        self.env_file.write_text(f"{text}SHOP_BASE_URL={self.url}\nSHOP_PORT={self.port}\n")
        if database:
            shutil.copy(database, folder / "db.sqlite3")
        else:
            self.manage("migrate", "--verbosity", "0")

    def docker(self, *arguments: str, stdin: str = "") -> str:
        """Runs ``docker`` in the checkout and returns its output. The test fails if the command
        fails."""
        return run(["docker", *arguments], self.folder, self.environment, stdin)

    def manage(self, *arguments: str, stdin: str = "") -> str:
        """Runs a management command of the service ``web`` and returns its output. The test fails
        if the command fails."""
        return self.docker(
            "compose", "run", "--rm", "-T", "web", "./manage.py", *arguments, stdin=stdin
        )

    def up(self) -> None:
        """Starts the application and waits until it answers."""
        self.docker("compose", "up", "-d")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(self.url + "/", trust_env=False)
            except httpx.TransportError:
                assert time.monotonic() < deadline, "the plain application does not answer"
                time.sleep(0.05)
            else:
                return

    def down(self) -> None:
        self.docker("compose", "down")

    def make_learner(self, username: str, password: str, **fields: bool) -> None:
        """Creates a user in the application. fields: further fields, such as ``is_staff``."""
        learner = {
            "username": username,
            "password": password,
            "email": f"{username}@example.org",
            "first_name": "Ada",
            "last_name": "Lovelace",
            **fields,
        }
        self.manage("shell", stdin=CREATE_USER_SCRIPT.format(data=json.dumps(learner)))

    def tree(self) -> dict[str, bytes]:
        """Path → content of every file of the checkout, except the database and Python's caches."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and "db.sqlite3" not in path.name and path.suffix != ".pyc"
        }


def run(
    argv: Sequence[str | Path], cwd: Path, environment: Mapping[str, str], stdin: str = ""
) -> str:
    """Runs a program and returns its standard output. If it fails, the test fails with both
    outputs."""
    result = subprocess.run(
        [str(part) for part in argv],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=dict(environment),
        check=False,
    )
    assert result.returncode == 0, f"{argv}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def checkout_of(script: Path) -> Checkout:
    """A checkout that has only the ``manage.py`` ``script``, run with this Python."""
    return Checkout(
        name="shop",
        title="Shop",
        edition=None,
        folder=script.parent,
        env_file=None,
        manage=(sys.executable, str(script)),
        compose=False,
        url="",
    )
