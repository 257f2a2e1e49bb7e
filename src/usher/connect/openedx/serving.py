"""Starts and stops the server process of an embedded LMS, which outlives the command.

The process holds a lock on ``server.lock`` while it lives. So if a stale ``server.pid`` holds the
id of another program, that program is never stopped.
"""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from usher.connect.errors import ToolFailed
from usher.contract.folders import is_locked

#: Seconds to wait for the process to end after a signal.
STOP_SECONDS = 15.0
#: The most lines of the log in an error message.
_MAX_LOG_LINES = 12


class Server:
    """The server process of an embedded LMS. home: the LMS's folder; host: the interface that it
    listens on."""

    def __init__(self, home: Path, host: str, port: int) -> None:
        self.host, self.port = host, port
        self._home = home
        self._pid_file = home / "server.pid"
        self._lock_file = home / "server.lock"
        self.log = home / "lms.log"
        self.command = [
            *(sys.executable, "-m", "usher.embedded", "serve", str(home)),
            *("--host", host, "--port", str(port), "--pid-file", str(self._pid_file)),
        ]

    @property
    def is_running(self) -> bool:
        return is_locked(self._lock_file)

    def start(self) -> None:
        """Starts the server process. Raises ToolFailed if it is running already."""
        with self._lock_file.open("a") as lock, self.log.open("ab") as log:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ToolFailed(f"the LMS in {self._home} runs already") from error
            # The process itself writes the file, also if this command is killed now.
            self._pid_file.unlink(missing_ok=True)
            subprocess.Popen(
                self.command,
                cwd=self._home,
                # Connect may run in the environment of an application with other settings.
                env={**os.environ, "USHER_LMS_HOME": str(self._home), "DJANGO_SETTINGS_MODULE": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # The process inherits the lock and holds it until it ends.
                pass_fds=[lock.fileno()],
            )

    def check(self) -> None:
        """Raises ToolFailed, with the end of the log, if the process has ended."""
        if not self.is_running:
            lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
            last = "\n".join(f"  {line}" for line in lines[-_MAX_LOG_LINES:])
            raise ToolFailed(f"the embedded LMS has ended; the end of {self.log}:\n{last}")

    def stop(self) -> bool:
        """Stops the process; returns whether it was running. Raises ToolFailed."""
        if not self.is_running:
            return False
        pid = self._wait_for_pid()
        if pid is None:
            return False
        self._signal(pid, signal.SIGTERM)
        if not self._wait_until_stopped():
            self._signal(pid, signal.SIGKILL)
            if not self._wait_until_stopped():
                raise ToolFailed(f"the LMS in {self._home} does not stop; end process {pid}")
        self._pid_file.unlink(missing_ok=True)
        return True

    def _wait_for_pid(self) -> int | None:
        """Returns the id of the process, which writes it when it starts; None if the process has
        ended before. Raises ToolFailed."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_running:
            with suppress(OSError, ValueError):
                return int(self._pid_file.read_text())
            if time.monotonic() > deadline:
                raise ToolFailed(
                    f"the LMS in {self._home} runs, and {self._pid_file} does not hold the id of "
                    f"its process; stop it: fuser -k {shlex.quote(str(self._lock_file))}"
                )
            time.sleep(0.1)
        return None

    def _signal(self, pid: int, number: signal.Signals) -> None:
        """Sends a signal to the process group: the server process and its workers."""
        with suppress(ProcessLookupError):
            os.killpg(pid, number)

    def _wait_until_stopped(self) -> bool:
        """Waits until the process has ended, STOP_SECONDS at most. Returns whether it has."""
        deadline = time.monotonic() + STOP_SECONDS
        while self.is_running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True
