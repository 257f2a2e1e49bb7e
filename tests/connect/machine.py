"""An operator's machine: real Tutor, a stand-in for Docker, an embedded LMS, and checkouts."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.checkout import VENV_BIN, PlainCheckout, free_port
from tests.support.docker import ContainerEngine
from tests.support.docker.kubernetes import api_server
from tests.support.served import make_lms
from tests.support.tutor import (
    AS_NIGHTLY,
    RELEASES,
    TutorRoot,
    tutor_executable,
    tutor_without_usher,
)
from usher.embedded.home.folder import Plan

#: The password of every learner.
PASSWORD = "pass-word-of-the-test"
#: Tutor uses LMS_HOST as the domain of cookies. A domain can't have a port, but here LMS_HOST has
#: one.
PORT_PLUGIN = "name: port\nversion: '1'\npatches:\n  lms-env: |\n    SESSION_COOKIE_DOMAIN: ''\n"
#: Seconds within which a command must end.
DEADLINE = 600.0


class Machine:
    """An operator's machine, in the folder ``home``.

    release: Tutor's release. mode: how Tutor runs the platform: local, dev, nightly or k8s.
    usher_in_tutor: whether Usher is installed in Tutor's environment already. usher_in_image:
    whether Usher is in the LMS's image.
    """

    def __init__(
        self,
        home: Path,
        release: int = RELEASES[-1],
        mode: str = "local",
        *,
        usher_in_tutor: bool = True,
        usher_in_image: bool = True,
    ) -> None:
        self.home = home
        self.mode = mode
        port = free_port()
        self.lms = f"http://localhost:{port}"
        self.lms_home = home / "lms"
        plan = Plan(root_url=self.lms, cheap_passwords=True)
        make_lms(self.lms_home, plan, ["seed_courses"]).close()
        self.set_image(usher=usher_in_image)
        self.engine = ContainerEngine.make(home / "engine", self.lms_home)
        self.state = home / "state"
        self.root = self._make_root(release, port)
        if usher_in_tutor:
            self.tutor = tutor_executable(release)
        else:
            self.tutor = tutor_without_usher(release, home / "tutor")
        self.checkouts: list[PlainCheckout] = []
        self._cluster = ExitStack()
        self.environment = {
            **os.environ,
            **self.engine.environment,
            "STANDIN_LMS_PORT": str(port),
            "TUTOR_PLUGINS_ROOT": str(self.root.path / "plugins"),
            "STANDIN_STATE": str(self.state),
            "USHER_STATE_HOME": str(self.state / "usher"),
        }
        if mode == "nightly":
            self.environment |= AS_NIGHTLY
        if mode == "k8s":
            self.start_api_server()

    def start_api_server(self) -> None:
        """Starts the API server of a cluster, which Tutor asks for the state of its jobs."""
        self.environment |= self._cluster.enter_context(api_server(self.engine))

    def _make_root(self, release: int, port: int) -> TutorRoot:
        path = self.home / "root"
        (path / "plugins").mkdir(parents=True)
        (path / "plugins/port.yml").write_text(PORT_PLUGIN)
        hosts = {"LMS_HOST": f"localhost:{port}", "CMS_HOST": "studio.example"}
        return TutorRoot.make(release, path, plugins=("mfe", "port"), config=hosts)

    def set_image(self, *, usher: bool) -> None:
        """Makes the LMS an image with or without Usher. The stand-in's ``buildx build`` adds Usher,
        too."""
        file = self.lms_home / "lms.env.yml"
        settings = yaml.safe_load(file.read_text())
        plugins = ["usher"] if usher else []
        file.write_text(yaml.safe_dump({**settings, "EMBEDDED_PLUGINS": plugins}))

    def add_checkout(self, name: str, database: Path, *, learner: str) -> PlainCheckout:
        """Creates a checkout with its own stand-in for docker and one user. database: a migrated
        database to copy. learner: the user's name."""
        checkout = PlainCheckout(
            self.home / name, self.state, path=[self.engine.bin], database=database
        )
        checkout.make_learner(learner, PASSWORD)
        self.checkouts.append(checkout)
        self.environment["PATH"] = checkout.environment["PATH"]
        return checkout

    def stop(self) -> None:
        """Stops the applications, the LMS and the cluster's API server."""
        self._cluster.close()
        for checkout in self.checkouts:
            checkout.down()
        file = self.state / "lms/lms.json"
        if file.exists():
            with suppress(ProcessLookupError):
                os.killpg(json.loads(file.read_text())["pid"], signal.SIGKILL)

    # -- the command

    def usher(self, command: str, *arguments: str, code: int | None = 0) -> dict[str, Any]:
        """Runs ``usher COMMAND … --json`` and returns the printed object. code: the expected exit
        code, None for any."""
        result = self.run([*self.argv(command, *arguments), "--json"])
        assert code in (result.returncode, None), (
            f"{result.returncode}\n{result.stdout}\n{result.stderr}"
        )
        return json.loads(result.stdout.splitlines()[-1])

    def run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, capture_output=True, text=True, env=self.environment, cwd=self.home, check=False
        )

    def argv(self, command: str, *arguments: str) -> list[str]:
        """The command line of ``usher COMMAND`` for this machine's Tutor. It asks no questions."""
        return [
            str(VENV_BIN / "usher"),
            command,
            "--tutor",
            str(self.tutor),
            "--tutor-root",
            str(self.root.path),
            "--yes",
            *self._mode_options(),
            *arguments,
        ]

    def _mode_options(self) -> list[str]:
        if self.mode == "local":
            return []
        # Tutor's dev mode has the LMS on port 8000. Here the LMS has a free port, so connect needs
        # its address.
        address = [] if self.mode == "k8s" else ["--lms-url", self.lms]
        return ["--mode", self.mode, *address]

    def connect(
        self, checkout: PlainCheckout, *arguments: str, code: int | None = 0
    ) -> dict[str, Any]:
        return self.usher("connect", *options_for(checkout), *arguments, code=code)

    def converse(self, answers: dict[str, str], *arguments: str) -> tuple[int, str]:
        """Runs ``usher`` with these arguments on a terminal. answers: question → what to type.
        Returns the exit code and the output."""
        controller, terminal = os.openpty()
        argv = [word for word in self.argv(*arguments) if word != "--yes"]
        process = subprocess.Popen(
            argv,
            env={**self.environment, "TERM": "dumb"},
            cwd=self.home,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        screen = ""
        unanswered = dict(answers)
        with suppress(OSError):  # the terminal closes when the command ends
            while data := os.read(controller, 4096):
                screen += data.decode(errors="replace")
                for question in list(unanswered):
                    if question in screen:
                        answer = unanswered.pop(question)
                        os.write(controller, f"{answer}\n".encode())
        os.close(controller)
        return process.wait(DEADLINE), screen

    def kill_during(self, step: str, *arguments: str, after: float = 0.0) -> bool:
        """Runs ``usher`` with these arguments, and kills it and its children ``after`` seconds
        after the step with the id ``step`` has begun. Returns False if the command succeeded before
        that."""
        process = subprocess.Popen(
            self.argv(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout
        output = ""
        for line in process.stdout:
            output += line
            if re.search(rf"^ *\[\d+/\d+\] {re.escape(step)} ", line):
                time.sleep(after)
                if process.poll() is not None:
                    break
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return True
        assert process.wait(DEADLINE) == 0, output
        return False

    # -- the state

    def facts(self) -> dict[str, Any]:
        """The values that a connection changes in Tutor's configuration, the applications and the
        LMS. Two runs with the same result have equal facts."""
        with sqlite3.connect(self.lms_home / "db.sqlite3") as lms:
            providers = lms.execute(
                "select backend_name, site_id, enabled, key, secret, other_settings"
                " from third_party_auth_oauth2providerconfig order by id"
            ).fetchall()
            clients = lms.execute(
                "select name, client_id, redirect_uris, skip_authorization"
                " from oauth2_provider_application where client_type = 'confidential' order by id"
            ).fetchall()
        return {
            "config": self.root.config(),
            "env": [checkout.env_file.read_text() for checkout in self.checkouts],
            "clients_in_applications": [oauth_clients(checkout) for checkout in self.checkouts],
            "providers_in_lms": providers,
            "clients_in_lms": clients,
        }

    # -- the learner

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(follow_redirects=True, timeout=120, trust_env=False) as client:
            yield client

    def sign_in(
        self, checkout: PlainCheckout, learner: str, backend: str, target: str = "/dashboard"
    ) -> httpx.Response:
        """Opens the LMS's page ``target`` as a learner who signs in at the application on the way.
        Returns the last answer."""
        with self.browser() as browser:
            page = browser.get(f"{self.lms}/auth/login/{backend}/?next={target}")
            assert page.url.path == "/signin/", f"{page.status_code} {page.url}"
            assert str(page.url).startswith(checkout.url)
            token = re.search(r'csrfmiddlewaretoken" value="([^"]+)"', page.text)
            assert token
            form = {"csrfmiddlewaretoken": token[1], "username": learner, "password": PASSWORD}
            return browser.post(str(page.url), data=form, headers={"Referer": str(page.url)})


def options_for(checkout: PlainCheckout) -> list[str]:
    """The options that name the checkout for ``usher connect``."""
    return ["--application", str(checkout.folder), "--server-url", checkout.url]


def oauth_clients(checkout: PlainCheckout) -> list[Any]:
    """The OAuth clients in the application's database: (name, client id, redirect URIs)."""
    with sqlite3.connect(checkout.folder / "db.sqlite3") as database:
        return database.execute(
            "select name, client_id, redirect_uris from oauth2_provider_application order by id"
        ).fetchall()
