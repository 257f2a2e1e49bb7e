"""Real checkouts of MITx Online and MIT xPro are connected, tested with a sign-in and disconnected.

The tests are collected if ``MITXONLINE`` or ``MITXPRO`` names a checkout whose database is migrated
and whose assets are built. ``MITXONLINE_MANAGE`` or ``MITXPRO_MANAGE`` is the command that runs the
checkout's manage.py without containers. The checkout's own settings, such as ``DATABASE_URL``, come
from the environment or from its ``.env``. The tests change only the ``.env``, and restore it.
"""

import http.client
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.checkout import VENV_BIN, free_port
from usher.connect.application.settings import KEYS
from usher.contract import exits
from usher.contract.envfile import EnvFile

START_SECONDS = 300.0
#: The applications of which a checkout is given.
NAMES = [name for name in ("mitxonline", "mitxpro") if os.environ.get(name.upper())]


class RealCheckout:
    """A real checkout. name: ``mitxonline`` or ``mitxpro``. state: the folder of Usher's state."""

    def __init__(self, name: str, state: Path) -> None:
        self.folder = Path(os.environ[name.upper()])
        self.manage = os.environ.get(f"{name.upper()}_MANAGE", ".venv/bin/python manage.py")
        self.lms = f"http://127.0.0.1:{free_port()}"
        self.state = state
        self.environment = {**os.environ, "USHER_STATE_HOME": str(state)}

    def usher(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Runs ``usher … --json`` and returns the printed object. code: the expected exit code."""
        result = subprocess.run(
            [str(VENV_BIN / "usher"), *arguments, "--json"],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        assert result.returncode == code, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
        return dict(json.loads(result.stdout))

    def connect(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        options = ("--application", str(self.folder), "--lms", "embedded", "--lms-url", self.lms)
        return self.usher(
            "connect", *options, "--manage", self.manage, *arguments, "--yes", code=code
        )

    def initial_settings(self) -> dict[str, str]:
        """The settings in the checkout's ``.env`` or, if there is none, in the example that connect
        copies."""
        env_file = self.folder / ".env"
        if not env_file.exists():
            env_file = self.folder / ".env.example"
        return EnvFile.read(env_file).values()

    @property
    def has_gateway(self) -> bool:
        """Whether learners sign in at an API gateway."""
        env = self.initial_settings()
        return env.get("MITOL_APIGATEWAY_DISABLE_MIDDLEWARE", "").lower() == "false"

    @contextmanager
    def running_server(self) -> Iterator[None]:
        """Runs the application's development server and, if people sign in at an API gateway, a
        small gateway in front of it."""
        env_file = EnvFile.read(self.folder / ".env")
        (connection,) = self.usher("status")["connections"]
        browser_url = connection["url"]
        # The settings name the server's own address, unless browsers reach the server directly.
        server_url = browser_url
        for key in ("MITX_ONLINE_BASE_URL", "MITXPRO_BASE_URL"):
            server_url = env_file.values().get(key) or os.environ.get(key) or server_url
        address = f"127.0.0.1:{urlsplit(server_url).port}"
        command = [*shlex.split(self.manage), "runserver", "--noreload", address]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **env_file.values_for_process(os.environ)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with ExitStack() as stack:
                if browser_url != server_url:
                    stack.enter_context(gateway(urlsplit(browser_url).port or 80, address))
                deadline = time.monotonic() + START_SECONDS
                while not answers(f"http://{address}/"):
                    assert time.monotonic() < deadline, f"nothing answers at {address}"
                    time.sleep(0.5)
                yield
        finally:
            process.terminate()
            process.wait()


def answers(url: str) -> bool:
    """Whether a server answers at this address, with a status below 500."""
    try:
        return httpx.get(url, trust_env=False, timeout=60).status_code < 500
    except httpx.TransportError:
        return False


@contextmanager
def gateway(port: int, application: str) -> Iterator[None]:
    """Serves an API gateway on ``port``, like APISIX with Keycloak: the gateway has its own pages
    to sign in and out, and forwards all other requests to ``application`` (host:port)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            """Answers with a page of the gateway, or with the application's answer."""
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            path, _, _ = self.path.partition("?")
            if path.rstrip("/") in ("/login", "/signin", "/logout/oidc"):
                self.send_answer(200, [], b"<form>sign in here</form>")
                return
            del self.headers["Connection"]
            headers = dict(self.headers.items())
            client = http.client.HTTPConnection(application, timeout=120)
            client.request(self.command, self.path, body, headers)
            answer = client.getresponse()
            self.send_answer(answer.status, answer.getheaders(), answer.read())

        def send_answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for key, value in headers:
                if key.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_HEAD = answer

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=NAMES)
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealCheckout]:
    """A checkout of a real application. After the test, its connection is removed."""
    checkout = RealCheckout(request.param, tmp_path / "state")
    yield checkout
    command = [str(VENV_BIN / "usher"), "disconnect", "--yes", "--purge"]
    subprocess.run(command, env=checkout.environment, check=False)


def test_an_application_is_connected_verified_and_disconnected(real: RealCheckout):
    earlier_values = real.initial_settings()
    # Connect starts the application for the checks, but no API gateway.
    first = real.connect(code=exits.UNFINISHED if real.has_gateway else exits.DONE)
    assert first["started"]
    if real.has_gateway:
        assert "API gateway" in first["error"]
    with real.running_server():
        second = real.connect()
        outcomes = {check["id"]: check["outcome"] for check in second["checks"]}
        assert second["changed"] == []
        assert "failed" not in outcomes.values()
        assert (outcomes["sign-in-page"], outcomes["learner"]) == ("ok", "ok")
        report = real.usher("doctor", "--journey")
        assert report["healthy"]
        for check in report["checks"]:
            assert "manage.py is not known" not in check["seen"], check["id"]
        assert real.usher("disconnect", "--yes")["ok"]
    final_values = EnvFile.read(real.folder / ".env").values()
    for key in KEYS:
        assert final_values.get(key) == earlier_values.get(key), key
