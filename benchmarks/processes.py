"""Server processes of benchmarks and chaos."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Seconds that ``wait_for`` waits by default.
_TIMEOUT = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], event: str, seconds: float = _TIMEOUT) -> None:
    """Waits for the condition. Raises RuntimeError with the name of the event if it isn't true in
    time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{event} did not happen within {seconds:.0f} s")
        time.sleep(0.02)


class Process:
    """Starts a process, whose output is appended to the file ``log``. name: for messages.
    environment: variables in addition to those of this process."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._log_file = log
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log_file.open("ab") as log:
            return subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment_with(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """The text of the log file."""
        return self._log_file.read_text(errors="replace")

    def wait_for_port(self, port: int) -> None:
        """Waits until the process accepts connections at this port of this machine. Raises
        RuntimeError if it ends, or does not accept any in time."""

        def answers() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log[-2000:]}")
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for(answers, f"the start of {self.name}")

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def restart(self) -> None:
        """Waits until the process has ended, and starts it again."""
        self.process.wait()
        self.process = self._start()

    def stop(self) -> None:
        """Ends the process, with SIGKILL if it does not end within five seconds after SIGTERM."""
        self.send_signal(signal.SIGCONT)  # a suspended process does not react to SIGTERM
        self.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.send_signal(signal.SIGKILL)
            self.process.wait()


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without variables of Django and the campus, plus ``more``."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "CAMPUS_"))
    }
    environment["PYTHONPATH"] = f"{ROOT}:{ROOT / 'campus'}"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment | dict(more)
