"""A served LMS in a folder of its own, by the commands that people use."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

SECONDS = 60
ENVIRONMENT = {
    k: v for k, v in os.environ.items() if k not in ("DJANGO_SETTINGS_MODULE", "LMS_CFG")
}


@contextmanager
def served_lms(**settings: Any) -> Iterator[tuple[Path, str]]:
    """Folder and address. settings: over ``lms.env.yml``."""
    base = Path(tempfile.mkdtemp(prefix="usher-lms-"))
    folder, port = base / "lms", _free_port()
    url = f"http://127.0.0.1:{port}"
    try:
        _command("init", str(folder), "--root-url", url, "--cheap-passwords")
        file = folder / "lms.env.yml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | settings))
        command = [sys.executable, str(folder / "manage.py"), "lms", "seed_courses"]
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, timeout=SECONDS)
        with _serving(folder, url, port):
            yield folder, url
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def _serving(folder: Path, url: str, port: int) -> Iterator[None]:
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "usher.embedded", "serve", str(folder), "--port", str(port)],
            stdout=log,
            stderr=log,
            env=ENVIRONMENT,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(url):
            assert server.poll() is None, (folder / "server.log").read_text()
            assert time.monotonic() < deadline, (folder / "server.log").read_text()
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/heartbeat", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _command(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "usher.embedded", *arguments],
        check=True,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=SECONDS,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
