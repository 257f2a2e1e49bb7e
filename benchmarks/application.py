"""Sets up and serves the reference application for benchmarks and for ``make chaos``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT, Process, environment_with
from benchmarks.services import Services
from usher.contract.oauth import EDX_OAUTH_APP, lms_redirect_uri

#: Of the LMS's OAuth client in the application.
CLIENT_ID, CLIENT_SECRET = "bench-client", "bench-secret"
#: Options of granian.
SERVER = ("--interface", "wsgi", "--workers", "1", "--blocking-threads", "8", "--no-ws")


def environment(
    home: Path, port: int, lms_url: str, database_url: str, **more: str
) -> dict[str, str]:
    """Environment variables for every process of the application. more: further variables."""
    return {
        "DJANGO_SETTINGS_MODULE": "campus.settings",
        "CAMPUS_ENV_FILE": str(home / "none.env"),  # does not exist, so no ``.env`` is read
        "CAMPUS_HOME": str(home),
        "SITE_BASE_URL": f"http://localhost:{port}",
        "DATABASE_URL": database_url,
        "OPENEDX_API_BASE_URL": lms_url,
        "OPENEDX_OAUTH_PROVIDER": "mitxpro-oauth2",
        "OPENEDX_API_CLIENT_ID": "bench-oauth-client",
        "OPENEDX_API_CLIENT_SECRET": "bench-oauth-secret",
        "OPENEDX_SERVICE_WORKER_USERNAME": "service-worker",
        "OPENEDX_SERVICE_WORKER_API_TOKEN": "bench-service-token",
        **more,
    }


def prepare(env: Mapping[str, str], lms_url: str) -> None:
    """Creates the tables and the LMS's OAuth client."""
    migrate(env, "campus/manage.py")
    python(
        env,
        f"""
from usher.application.provider.clients import ensure_client
ensure_client({EDX_OAUTH_APP!r}, [{lms_redirect_uri(lms_url, "mitxpro-oauth2")!r}],
              client_id={CLIENT_ID!r}, client_secret={CLIENT_SECRET!r})
""",
    )


def migrate(env: Mapping[str, str], manage: str) -> None:
    command = [sys.executable, manage, "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=environment_with(env), check=True)


def python(env: Mapping[str, str], script: str) -> str:
    """Runs ``script`` with Django set up, and returns the standard output. If the script fails,
    raises RuntimeError with the standard error."""
    full_script = "import django; django.setup()\n" + script
    command = [sys.executable, "-c", full_script]
    result = subprocess.run(
        command, cwd=ROOT, env=environment_with(env), capture_output=True, text=True
    )
    if result.returncode:
        raise RuntimeError(f"The application's script failed:\n{result.stderr}")
    return result.stdout


def serve(services: Services, name: str, wsgi: str, port: int, env: Mapping[str, str]) -> Process:
    """Starts granian as in production, with one process. wsgi: ``module:name`` of the WSGI
    application."""
    server = services.module(
        name, "granian", [*SERVER, "--host", "127.0.0.1", "--port", str(port), wsgi], env
    )
    server.wait_for_port(port)
    return server


def serve_lms(services: Services, port: int, application_port: int, *more: Any) -> Process:
    """Starts the benchmark LMS, for the application on this port. more: options of
    ``benchmarks.lms``."""
    arguments = ["--port", str(port), "--application-url", f"http://localhost:{application_port}"]
    server = services.module("lms", "benchmarks.lms", [*arguments, *map(str, more)], {})
    server.wait_for_port(port)
    return server
