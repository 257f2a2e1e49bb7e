"""The commands in ``deploy/sidecar.compose.yml`` and the Kubernetes manifest, run as in their
containers, with an application on PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pgserver
import pytest
import yaml

from tests.deploy.test_sidecar_files import DEPLOY, ComposeLoader
from tests.sidecar.conftest import NO_SERVER, System
from tests.sidecar.test_drift import course_of
from tests.sidecar.test_reconcile import tokens_of, wait_until
from tests.support.lms_process import LmsProcess
from tests.support.stand_ins import BASE_URL, StandIn

NAME = "mitxonline"


@pytest.fixture(scope="module")
def database() -> Iterator[pgserver.PostgresServer]:
    """A PostgreSQL server with an empty database ``NAME``."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = pgserver.get_server(folder)
        server.psql(f"CREATE DATABASE {NAME}")
        yield server
        server.cleanup()


@pytest.fixture(scope="module")
def deployed(
    plugin_lms: LmsProcess, database: pgserver.PostgresServer, tmp_path_factory: Any
) -> Iterator[System]:
    """The application on PostgreSQL and an LMS, with the connection in environment variables."""
    values = plugin_lms.application_settings(NO_SERVER)
    values[BASE_URL[NAME]] = values.pop("SITE_BASE_URL")
    settings = {key: str(value) for key, value in values.items()}
    with ExitStack() as stack:
        url = database.get_uri().replace("/postgres?", f"/{NAME}?")
        folder = tmp_path_factory.mktemp("deployed") / "src"
        application = StandIn(folder, NAME, DATABASE_URL=url, **settings)
        stack.callback(application.close)
        # Containers have the values of `.env` in their environment, and no such file.
        application.env_file.unlink()
        yield System(application, plugin_lms)


def start_usher(deployed: System, *arguments: str) -> subprocess.Popen[str]:
    """Starts ``usher`` as in a container, with the values of `.env` in the environment."""
    folder = deployed.application.folder
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "usher.cli.main", *arguments],
        env={
            **deployed.application.environment(),
            "PATH": path,
            "USHER_STATE_HOME": f"{folder}/state",
        },
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_watching_repairs_due_rows_and_ends_within_the_grace_period(deployed: System) -> None:
    compose = yaml.load((DEPLOY / "sidecar.compose.yml").read_text(), ComposeLoader)
    (service,) = compose["services"].values()
    grace_seconds = int(service["stop_grace_period"].removesuffix("s"))
    folder = str(deployed.application.folder)
    command = [word.replace("${APPLICATION_FOLDER:-/src}", folder) for word in service["command"]]
    running = start_usher(deployed, *command)
    try:
        name = "deployed"
        deployed.create_users(name)
        wait_until(lambda: len(tokens_of(deployed, name)) == 1)
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=grace_seconds)
    finally:
        running.kill()
    assert running.returncode == 0, output
    assert "stopped" in output


def test_a_read_only_database_ends_reconcile_and_refuses_nobody(
    deployed: System, database: pgserver.PostgresServer
) -> None:
    """The database may be a replica, or a primary whose disk is full. When it takes writes again,
    the command repairs everything."""
    enrolled, not_enrolled, course = "readonly", "readonly2", course_of(deployed)
    deployed.create_users(enrolled, not_enrolled)
    deployed.create_enrollment(enrolled, course)
    folder = str(deployed.application.folder)
    arguments = ["reconcile", "--application", folder, "--manage", "python3 manage.py"]
    arguments.append("--env-file=/dev/null")  # the settings are in the environment
    database.psql(f"ALTER DATABASE {NAME} SET default_transaction_read_only = on")
    try:
        running = start_usher(deployed, *arguments)
        output, _ = running.communicate(timeout=120)
    finally:
        database.psql(f"ALTER DATABASE {NAME} RESET default_transaction_read_only")
    assert running.returncode == 2, output
    assert "takes no writes" in " ".join(output.split())
    assert "refused" not in output
    running = start_usher(deployed, *arguments)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 0, output
    assert [len(tokens_of(deployed, name)) for name in (enrolled, not_enrolled)] == [1, 1]
    assert {key for key, _, _ in deployed.enrollments_in_lms(enrolled)} == {course}
