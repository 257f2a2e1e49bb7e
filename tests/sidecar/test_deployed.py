"""What ``deploy/sidecar.compose.yml`` and the Kubernetes manifest run, as their containers run it,
beside an application on PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pgserver
import pytest
import yaml

from tests.deploy.test_sidecar_files import DEPLOY, Compose
from tests.sidecar.conftest import Sides
from tests.sidecar.test_reconcile import _until, tokens
from tests.support.lms_process import LmsProcess
from tests.support.shapes import BASE_URL, Shape

NAME = "mitxonline"


@pytest.fixture
def deployed(plugin_lms: LmsProcess, tmp_path: Path) -> Iterator[Sides]:
    values = plugin_lms.settings("http://127.0.0.1:1")
    values[BASE_URL[NAME]] = values.pop("SITE_BASE_URL")
    settings = {key: str(value) for key, value in values.items()}
    with ExitStack() as stack:
        database = pgserver.get_server(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="pg-"))
        )
        stack.callback(database.cleanup)
        database.psql(f"CREATE DATABASE {NAME}")
        url = database.get_uri().replace("/postgres?", f"/{NAME}?")
        shape = Shape(tmp_path / "src", NAME, DATABASE_URL=url, **settings)
        stack.callback(shape.close)
        # What `.env` says is in the container's environment; the file itself is not in the image.
        shape.env_file.unlink()
        yield Sides(shape, plugin_lms)


def test_it_repairs_what_becomes_due_and_ends_within_the_grace_period(deployed: Sides) -> None:
    compose = yaml.load((DEPLOY / "sidecar.compose.yml").read_text(), Compose)
    (service,) = compose["services"].values()
    grace = int(service["stop_grace_period"].removesuffix("s"))
    folder = str(deployed.shape.folder)
    command = [word.replace("${APPLICATION_FOLDER:-/src}", folder) for word in service["command"]]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    running = subprocess.Popen(
        [sys.executable, "-m", "usher.cli.main", *command],
        env={**deployed.shape.environment(), "PATH": path, "USHER_STATE_HOME": f"{folder}/state"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
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
