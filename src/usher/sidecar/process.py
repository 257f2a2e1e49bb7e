"""Starts the agent through the application's ``manage.py``, and exchanges JSON lines with it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import secrets
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator
from importlib import resources
from typing import IO, Any

from usher.connect.application.checkout import Checkout
from usher.contract.envfile import EnvFile
from usher.contract.secret_values import Secrets
from usher.contract.terminal import printable
from usher.sidecar.errors import AgentFailed, RequestFailed

#: The version of the requests and answers, as ``agent.VERSION``.
VERSION = 1
#: The number of the answer that the agent sends without a request when it has started.
_START_NUMBER = 0
#: The most rows in one request, as ``agent.MOST_ROWS``.
MOST_ROWS = 1000
#: The argument of ``shell -c``. It reads the agent's source from standard input, so that nothing
#: long or secret is an argument.
BOOTSTRAP = (
    "import sys; i = sys.stdin.buffer; m, n = i.readline().split();"
    " s = {'__name__': 'usher_agent'}; exec(compile(i.read(int(n)), 'usher_agent', 'exec'), s);"
    " s['serve'](m.decode())"
)
#: Seconds that the start may take: containers may have to be started first.
START_TIMEOUT = 300.0
#: Seconds without an answer or an ``alive`` line after which AgentFailed is raised.
SILENCE_TIMEOUT = 60.0
#: The most seconds for one request: without a limit, a locked table would block the sidecar for
#: ever.
REQUEST_TIMEOUT = 900.0
#: Seconds between two checks whether the process is still running.
_POLL_SECONDS = 1.0
#: Seconds that the process may take to end after its input or output was closed.
_END_TIMEOUT = 5.0
#: Seconds to wait for the rest of the output of a process that has ended.
_OUTPUT_TIMEOUT = 1.0
#: The last lines of the application's output, which error messages show.
_KEPT_LINES = 15
#: A line that Django's shell always prints at the start.
_SHELL_START_LINE = "objects imported automatically"
#: The most bytes that are kept of a line of the application's output.
_MAX_LINE_BYTES = 1000
#: The most bytes in an answer of the agent; a thousand rows need far less.
_MAX_ANSWER_BYTES = 64 * 1024 * 1024


class Agent:
    """The agent's process. Use it as a context manager. It processes one request at a time; other
    threads wait.

    start_timeout, silence_timeout, request_timeout: see START_TIMEOUT, SILENCE_TIMEOUT and
    REQUEST_TIMEOUT. busy_seconds: seconds that the requests of the calling thread have taken so
    far.
    """

    def __init__(
        self,
        checkout: Checkout,
        *,
        start_timeout: float = START_TIMEOUT,
        silence_timeout: float = SILENCE_TIMEOUT,
        request_timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self._checkout = checkout
        self._silence_timeout, self._request_timeout = silence_timeout, request_timeout
        #: Begins the agent's lines, to tell them from other output of the application.
        self._mark = "usher-agent-" + secrets.token_hex(8)
        #: The number of the last request.
        self._number = 0
        #: ``seconds`` for each thread, see ``busy_seconds``.
        self._busy = threading.local()
        self._request_lock = threading.Lock()
        #: The agent's answers and ``alive`` lines; None when the process has ended.
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue()
        #: The last lines of the application's output, for error messages.
        self._output_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        #: Values that error messages must not show.
        self._secrets = Secrets()
        self._process = self._start()
        #: The threads that read the process's output. They end with it.
        self._readers = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._collect_stderr, daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._send_source()
            description: dict[str, Any] = self._wait_for_answer(
                number=_START_NUMBER, silence_timeout=start_timeout
            )
        except BaseException:
            self.close()
            raise
        if description.get("version") != VERSION:
            self.close()
            raise AgentFailed(
                f"{checkout.title} answers in version {description.get('version')!r} of the "
                f"agent's protocol, not in {VERSION}: another program takes the agent's place. "
                f"What does {' '.join(checkout.manage)} shell start?"
            )

    def _start(self) -> subprocess.Popen[bytes]:
        """Starts ``manage.py shell``, with the values of the application's ``.env`` unless docker
        compose runs it. Raises AgentFailed if there is no ``manage.py`` or it can't be run, and
        EnvFileError if the ``.env`` can't be read."""
        checkout = self._checkout
        if not checkout.manage:
            raise AgentFailed(f"{checkout.title} has no manage.py here; name it with --manage")
        environment = dict(os.environ)
        self._secrets.add_settings(environment)
        # Otherwise the application would use the settings module of this process.
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        if checkout.env_file:
            env_file = EnvFile.read(checkout.env_file)
            self._secrets.add_settings(env_file.values())
            if not checkout.compose:
                environment |= env_file.values_for_process(environment)
        try:
            return subprocess.Popen(
                [*checkout.manage, "shell", "-c", BOOTSTRAP],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=checkout.folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise AgentFailed(f"{checkout.manage[0]} can't be run: {error.strerror}") from error

    def _send_source(self) -> None:
        source = resources.files("usher.sidecar").joinpath("agent.py").read_bytes()
        self._write(f"{self._mark} {len(source)}\n".encode() + source)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the agent's input, which ends it. Kills it if it does not end in time."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def busy_seconds(self) -> float:
        return float(getattr(self._busy, "seconds", 0.0))

    def ask(self, action: str, **request: Any) -> Any:
        """Sends a request and returns the agent's answer. action: the name of one of the ACTIONS of
        ``agent.py``, which describes their requests and answers. Raises RequestFailed if the agent
        answers with an error, AgentFailed if it ends or does not answer in time."""
        with self._request_lock:
            self._number += 1
            line = json.dumps({"id": self._number, "action": action, **request}) + "\n"
            began = time.monotonic()
            try:
                self._write(line.encode())
                return self._wait_for_answer(self._number, self._silence_timeout)
            finally:
                self._busy.seconds = self.busy_seconds + time.monotonic() - began

    def pages(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Yields all answers to ``page`` (see ``agent.page``), one after another. Raises what
        ``ask`` raises."""
        after: Any = None
        while True:
            page = self.ask("page", after=after, **request)
            yield page
            after = page["next"]
            if after is None:
                return

    def _write(self, data: bytes) -> None:
        """Writes to the agent's input. Raises AgentFailed if the process has ended, or doesn't
        read in time and was killed."""
        assert self._process.stdin  # noqa: S101 - a pipe was asked for
        timed_out = threading.Event()

        def kill_suspended_process() -> None:
            timed_out.set()
            self._process.kill()

        # If the process is suspended, a write to a full pipe would never return.
        timer = threading.Timer(self._silence_timeout, kill_suspended_process)
        timer.daemon = True
        timer.start()
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            if timed_out.is_set():
                reason = self._silence_reason(self._silence_timeout)
                raise AgentFailed(reason + self._last_output()) from error
            raise self._process_ended_error() from error
        finally:
            timer.cancel()

    def _wait_for_answer(self, number: int, silence_timeout: float) -> Any:
        """Returns the result in the answer to the request of this number. silence_timeout: seconds
        without an answer or an ``alive`` line after which the agent is killed. Raises
        RequestFailed, AgentFailed."""
        silence_ends_at = time.monotonic() + silence_timeout
        request_ends_at = time.monotonic() + self._request_timeout
        while True:
            remaining = min(silence_ends_at, request_ends_at) - time.monotonic()
            try:
                message = self._messages.get(timeout=max(0.0, min(remaining, _POLL_SECONDS)))
            except queue.Empty:
                if self._process.poll() is not None:
                    # One of its child processes may keep its output open.
                    raise self._process_ended_error() from None
                if time.monotonic() < min(silence_ends_at, request_ends_at):
                    continue
                self._process.kill()
                reason = self._timeout_reason(silence_timeout, silence_ends_at)
                raise AgentFailed(reason + self._last_output()) from None
            if message is None:
                raise self._process_ended_error()
            if message.get("id") != number:
                continue  # about another request, whose answer nobody waits for any more
            if "alive" not in message:
                return self._result_in(message)
            silence_ends_at = time.monotonic() + silence_timeout

    def _result_in(self, message: dict[str, Any]) -> Any:
        """Returns the result in an answer. Raises RequestFailed if the answer is an error, and
        AgentFailed, after killing the agent, if it is neither."""
        if "error" in message:
            error = message["error"]
            text = self._secrets.hide(printable(str(error["message"])))
            raise RequestFailed(self._checkout.title, str(error["code"]), text)
        if "ok" not in message:
            self._process.kill()
            raise AgentFailed("the agent's answer holds neither a result nor an error")
        return message["ok"]

    def _timeout_reason(self, silence_timeout: float, silence_ends_at: float) -> str:
        """Returns which of the two timeouts ended the request, as a sentence."""
        if time.monotonic() >= silence_ends_at:
            return self._silence_reason(silence_timeout)
        return (
            f"{self._checkout.title} worked on one request for {self._request_timeout:.0f} "
            "seconds; is a table of its database locked?"
        )

    def _silence_reason(self, silence_timeout: float) -> str:
        return f"{self._checkout.title} did not answer for {silence_timeout:.0f} seconds"

    def _listen(self) -> None:
        """Reads lines: those with the mark are the agent's answers, all others the application's
        output."""
        assert self._process.stdout  # noqa: S101
        mark = self._mark.encode() + b" "
        for line in _lines_of(self._process.stdout, mark):
            if line.startswith(mark):
                message = _parse_answer(line[len(mark) :])
                if message is None:
                    self._output_lines.append("the agent wrote an answer that can't be read")
                    self._process.kill()
                    break
                self._messages.put(message)
            else:
                self._keep_output(line)
        self._messages.put(None)

    def _collect_stderr(self) -> None:
        assert self._process.stderr  # noqa: S101
        for line in _lines_of(self._process.stderr):
            self._keep_output(line)

    def _keep_output(self, line: bytes) -> None:
        if line.strip():
            self._output_lines.append(
                printable(line[:_MAX_LINE_BYTES].decode(errors="replace").rstrip())
            )

    def _process_ended_error(self) -> AgentFailed:
        """Returns the error to raise when the process has ended, with its exit code and last
        output."""
        try:
            code: int | None = self._process.wait(timeout=_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            code = None
        # Wait until the last lines are read, which say why it ended; but not for long, because a
        # child process may keep the output open.
        deadline = time.monotonic() + _OUTPUT_TIMEOUT
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        # The next request fails in the same way.
        self._messages.put(None)
        return AgentFailed(
            f"{self._checkout.title}'s manage.py {_describe_end(code)}{self._last_output()}"
        )

    def _last_output(self) -> str:
        """Returns the application's last lines, for the end of an error message; '' if none."""
        lines = [line for line in self._output_lines if _SHELL_START_LINE not in line]
        without_source_of_tracebacks = [
            line for line in lines if not line.startswith(("  File ", "    "))
        ]
        shown_lines = without_source_of_tracebacks or lines
        if not shown_lines:
            return ""
        return ":\n" + "\n".join(f"  {self._secrets.hide(line)}" for line in shown_lines)


def _lines_of(stream: IO[bytes], mark: bytes | None = None) -> Iterator[bytes]:
    """Yields the lines of a process's output. Cuts lines that are too long. Lines that begin with
    ``mark`` may be as long as an answer."""
    is_rest = False  # whether ``line`` continues a line whose beginning was yielded
    while line := stream.readline(_MAX_LINE_BYTES):
        if not is_rest:
            is_answer = mark is not None and line.startswith(mark)
            if is_answer and not line.endswith(b"\n"):
                line += stream.readline(_MAX_ANSWER_BYTES)
            yield line
        is_rest = not line.endswith(b"\n")


def _describe_end(code: int | None) -> str:
    """Describes an exit code; a negative one is a signal."""
    if code is None:
        return "ended"
    if code < 0:
        return f"was killed by signal {-code}; the next run continues from here"
    return f"ended with {code}"


def _parse_answer(text: bytes) -> dict[str, Any] | None:
    """Parses a line. Returns None if it is not an answer of the agent."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return None
    error = message.get("error")
    if error is None:
        return message
    is_valid_error = isinstance(error, dict) and "code" in error and "message" in error
    return message if is_valid_error else None
