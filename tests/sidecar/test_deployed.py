"""The commands of ``deploy/sidecar.compose.yml`` and the Kubernetes manifest, run as in their
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

from tests.deploy.test_sidecar_files import DEPLOY, Compose
from tests.sidecar.conftest import Sides
from tests.sidecar.test_drift import course_of
from tests.sidecar.test_reconcile import _until, tokens
from tests.support.lms_process import LmsProcess
from tests.support.shapes import BASE_URL, Shape

NAME = "mitxonline"


@pytest.fixture(scope="module")
def database() -> Iterator[pgserver.PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = pgserver.get_server(folder)
        server.psql(f"CREATE DATABASE {NAME}")
        yield server
        server.cleanup()


@pytest.fixture(scope="module")
def deployed(
    plugin_lms: LmsProcess, database: pgserver.PostgresServer, tmp_path_factory: Any
) -> Iterator[Sides]:
    values = plugin_lms.settings("http://127.0.0.1:1")
    values[BASE_URL[NAME]] = values.pop("SITE_BASE_URL")
    settings = {key: str(value) for key, value in values.items()}
    with ExitStack() as stack:
        url = database.get_uri().replace("/postgres?", f"/{NAME}?")
        folder = tmp_path_factory.mktemp("deployed") / "src"
        shape = Shape(folder, NAME, DATABASE_URL=url, **settings)
        stack.callback(shape.close)
        # What `.env` says is in the container's environment; the file itself is not in the image.
        shape.env_file.unlink()
        yield Sides(shape, plugin_lms)


def command_of(deployed: Sides, *words: str) -> subprocess.Popen[str]:
    """As in a container, where the values of `.env` are in the environment."""
    folder = deployed.shape.folder
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "usher.cli.main", *words],
        env={**deployed.shape.environment(), "PATH": path, "USHER_STATE_HOME": f"{folder}/state"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_it_repairs_what_becomes_due_and_ends_within_the_grace_period(deployed: Sides) -> None:
    compose = yaml.load((DEPLOY / "sidecar.compose.yml").read_text(), Compose)
    (service,) = compose["services"].values()
    grace = int(service["stop_grace_period"].removesuffix("s"))
    folder = str(deployed.shape.folder)
    command = [word.replace("${APPLICATION_FOLDER:-/src}", folder) for word in service["command"]]
    running = command_of(deployed, *command)
    try:
        name = "deployed"
        deployed.people(name)
        _until(lambda: len(tokens(deployed, name)) == 1)
        running.send_signal(signal.SIGTERM)
        said, _ = running.communicate(timeout=grace)
    finally:
        running.kill()
    assert running.returncode == 0, said
    assert "stopped" in said


def test_a_database_that_takes_no_writes_ends_it_and_refuses_nobody(
    deployed: Sides, database: pgserver.PostgresServer
) -> None:
    """For example a replica, or a primary whose disk is full."""
    name, course = "readonly", course_of(deployed)
    deployed.people(name)
    deployed.enroll(name, course)
    deployed.people("readonly2")
    folder = str(deployed.shape.folder)
    words = ["reconcile", "--application", folder, "--manage", "python3 manage.py"]
    words.append("--env-file=/dev/null")
    database.psql(f"ALTER DATABASE {NAME} SET default_transaction_read_only = on")
    try:
        said, _ = (running := command_of(deployed, *words)).communicate(timeout=120)
    finally:
        database.psql(f"ALTER DATABASE {NAME} RESET default_transaction_read_only")
    assert running.returncode == 2, said
    assert "takes no writes" in said
    assert "refused" not in said
    running = command_of(deployed, *words)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert len(tokens(deployed, name)) == 1
