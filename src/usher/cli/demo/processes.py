"""Server processes of the demo: their ports, start, readiness and stop."""

import errno
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from usher.cli.demo.errors import DemoError, NotStarted, ProcessEnded
from usher.contract import stop_with_parent
from usher.contract.tracebacks import is_traceback, summary_of_output

#: Seconds within which a server must answer.
START_SECONDS = 180.0
#: The most lines of a log in an error message.
MAX_LOG_LINES = 15


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def require_free_port(port: int, program: str, option: str) -> None:
    """Raises NotStarted if the port is taken or not allowed. For the message: ``program`` needs the
    port, and ``option`` chooses another port."""
    with socket.socket() as listener:
        # Servers set this option, too. With it a port is free even if earlier connections to it are
        # in TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "is taken" if error.errno == errno.EADDRINUSE else "needs root's permissions"
            raise NotStarted(
                f"Port {port}, which {program} needs, {reason}. Nothing was started. "
                f"Stop the program that listens there, or choose another port with {option} PORT."
            ) from error


def is_listening(port: int) -> bool:
    """Whether a program of this machine accepts connections at the port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@dataclass
class ServerProcess:
    """A server or worker process.

    name: for messages. command: what is run in ``folder``. environment: variables in addition to
    ``os.environ``. log: file that gets its output. ready_url: an address that answers with a status
    below 500 once the server is ready; '' if it has none.
    """

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    ready_url: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    #: Where in the log the output of this start begins.
    _log_start: int = field(default=0, repr=False)

    def start(self) -> None:
        """Starts the process. It stops when the present process ends."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        self.process = stop_with_parent.start(self.command, self.folder, self.environment, self.log)

    def wait_until_ready(self, check: Callable[[], None] | None = None) -> None:
        """Returns when the server answers. Raises ProcessEnded if it ends, and DemoError if it does
        not answer within START_SECONDS, both with the end of the log. check: called before each
        attempt; it can raise an error to end the wait. The default is the method ``check``."""
        if not self.ready_url:
            return
        check = check or self.check
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(timeout=5, trust_env=False) as client:
            while True:
                check()
                with suppress(httpx.TransportError):
                    if client.get(self.ready_url).status_code < 500:
                        return
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"{self.name} did not answer at {self.ready_url} within "
                        f"{START_SECONDS:.0f} seconds.{self._log_tail()}"
                    )
                time.sleep(0.05)

    def check(self) -> None:
        """Raises ProcessEnded if the process has ended by itself."""
        if report := self.end_report():
            raise ProcessEnded(report)

    def end_report(self) -> str:
        """If the process has ended by itself: a message with the cause or the end of its log. ''
        while it runs, before its start and after ``stop``."""
        if self.process is None or self.process.poll() is None:
            return ""
        reason = _reason_for_end(self.process.returncode)
        return f"{self.name} stopped by itself {reason}.{self._log_tail()}"

    def stop(self) -> None:
        """Stops the process and its children."""
        if self.process is not None:
            stop_with_parent.stop(self.process)
            self.process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def _log_tail(self) -> str:
        """The error and its place in ``folder`` if the process printed a traceback; else the last
        lines that the process printed. Lines of earlier processes in the same log are left out."""
        if cause := self.logged_cause():
            return cause
        text = self._output()
        if not text:
            return f" It wrote nothing to {self.log}."
        lines = text.splitlines()[-MAX_LOG_LINES:]
        return f" The end of {self.log}:\n" + "\n".join(f"  {line}" for line in lines)

    def logged_cause(self) -> str:
        """If the process printed a traceback: the last error and its place in ``folder``, as the
        end of a message. Otherwise ''."""
        text = self._output()
        if not is_traceback(text):
            return ""
        return f" The cause: {summary_of_output(text, self.folder)}\nLog: {self.log}"

    def _output(self) -> str:
        """What the process has printed since its start."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace").rstrip()


def _reason_for_end(code: int) -> str:
    """A phrase that says why a process ended. code: the exit code of ``Popen``, which is negative
    for a signal, or of ``stop_with_parent``, which is 128 + the number of the signal."""
    number = -code if code < 0 else code - 128
    try:
        return f"because of the signal {signal.Signals(number).name}"
    except ValueError:
        return f"with exit code {code}"


class RunningServers:
    """Base class: processes that run together, and the lock on their folder."""

    def __init__(self) -> None:
        #: In the order of their start; they are stopped in the reverse order.
        self._servers: list[ServerProcess] = []
        #: The open file whose lock this process holds; None without a lock.
        self._lock: IO[str] | None = None

    def _start_all(self, servers: list[ServerProcess]) -> None:
        """Starts the processes together and returns when all are ready. Raises DemoError."""
        self._servers = servers
        for server in servers:
            server.start()
        for server in servers:
            server.wait_until_ready(self._require_all_running)

    def check(self) -> None:
        """Raises ProcessEnded if one of the processes has ended by itself."""
        self._require_all_running()

    def _require_all_running(self) -> None:
        for server in self._servers:
            server.check()

    def stop(self) -> None:
        """Stops all processes and unlocks the folder."""
        self._stop_servers()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop_servers(self) -> None:
        for server in reversed(self._servers):
            server.stop()
        self._servers = []
