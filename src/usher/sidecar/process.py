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
from usher.connect.process import Secrets
from usher.contract.envfile import EnvFile
from usher.contract.terminal import printable
from usher.sidecar.errors import AgentFailed, RequestFailed

VERSION = 1
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
START = 300.0
#: Seconds without an answer or an ``alive`` line after which AgentFailed is raised.
SILENCE = 60.0
#: The most seconds for one request, since a table may be locked for ever.
LONGEST = 900.0
#: Seconds between two checks whether the process is still running.
_POLL_SECONDS = 1.0
_LAST_LINES = 15
#: A line that Django's shell always prints at the start.
_IMPORTED = "objects imported automatically"
#: The most bytes that are kept of a line of the application's output.
_MAX_NOISE_BYTES = 1000
#: The most bytes in an answer of the agent; a thousand rows need far less.
_LONGEST_ANSWER = 64 * 1024 * 1024


class Agent:
    """The agent's process. Use it as a context manager. It processes one request at a time; other
    threads wait.

    start_timeout, silence, longest: as START, SILENCE and LONGEST. busy: seconds that the requests
    of the calling thread have taken so far.
    """

    def __init__(
        self,
        checkout: Checkout,
        *,
        start_timeout: float = START,
        silence: float = SILENCE,
        longest: float = LONGEST,
    ) -> None:
        self._checkout = checkout
        self._silence, self._longest = silence, longest
        self._mark = "usher-agent-" + secrets.token_hex(8)
        self._number = 0
        self._worked = threading.local()
        self._asking = threading.Lock()
        self._lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._noise: deque[str] = deque(maxlen=_LAST_LINES)
        self._secrets = Secrets()
        self._process = self._start()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._gather_noise, daemon=True).start()
        try:
            self._send_source()
            description: dict[str, Any] = self._answer(0, start_timeout)
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
        checkout, environment = self._checkout, dict(os.environ)
        if not checkout.manage:
            raise AgentFailed(f"{checkout.title} has no manage.py here; name it with --manage")
        self._secrets.add(v for k, v in environment.items() if _is_secret(k, v))
        if checkout.env_file:
            env_file = EnvFile.read(checkout.env_file)
            self._secrets.add(v for k, v in env_file.values().items() if _is_secret(k, v))
            if not checkout.compose:
                environment |= env_file.values_for_process(environment)
        # Otherwise the application would use the settings module of this process.
        environment.pop("DJANGO_SETTINGS_MODULE", None)
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
        """Closes the agent's input, which ends it."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def busy(self) -> float:
        return float(getattr(self._worked, "seconds", 0.0))

    def ask(self, do: str, **request: Any) -> Any:
        """Sends a request and returns the agent's answer. do: the name of one of the ACTIONS of
        ``agent.py``, which describes their requests and answers. Raises RequestFailed if the agent
        answers with an error, AgentFailed if it ends or does not answer in time."""
        with self._asking:
            self._number += 1
            line = json.dumps({"id": self._number, "do": do, **request}) + "\n"
            began = time.monotonic()
            try:
                self._write(line.encode())
                return self._answer(self._number, self._silence)
            finally:
                self._worked.seconds = self.busy + time.monotonic() - began

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
        assert self._process.stdin  # noqa: S101 - a pipe was asked for
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._process.kill()

        # If the process is suspended, a write to a full pipe would never return.
        waiting = threading.Timer(self._silence, give_up)
        waiting.daemon = True
        waiting.start()
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            if late.is_set():
                text = self._why_late(self._silence, time.monotonic()) + self._last_output()
                raise AgentFailed(text) from error
            raise self._error_of_ended() from error
        finally:
            waiting.cancel()

    def _answer(self, number: int, silence: float) -> Any:
        until = time.monotonic() + silence
        last = time.monotonic() + self._longest
        while True:
            now = time.monotonic()
            try:
                message = self._lines.get(
                    timeout=max(0.0, min(until - now, last - now, _POLL_SECONDS))
                )
            except queue.Empty:
                if self._process.poll() is not None:
                    # One of its child processes may keep its output open.
                    raise self._error_of_ended() from None
                if time.monotonic() < min(until, last):
                    continue
                self._process.kill()
                raise AgentFailed(self._why_late(silence, until) + self._last_output()) from None
            if message is None:
                raise self._error_of_ended()
            if message.get("id") != number:
                continue
            if "alive" in message:
                until = time.monotonic() + silence
                continue
            if "error" in message:
                error = message["error"]
                text = self._secrets.hide(printable(str(error["message"])))
                raise RequestFailed(self._checkout.title, str(error["code"]), text)
            if "ok" not in message:
                self._process.kill()
                raise AgentFailed("the agent's answer holds neither a result nor an error")
            return message["ok"]

    def _why_late(self, silence: float, until: float) -> str:
        title = self._checkout.title
        if time.monotonic() >= until:
            return f"{title} did not answer for {silence:.0f} seconds"
        return (
            f"{title} worked on one request for {self._longest:.0f} seconds; is a table of its "
            "database locked?"
        )

    def _listen(self) -> None:
        """Reads lines: those with the mark are the agent's answers, all others the application's
        output."""
        assert self._process.stdout  # noqa: S101
        mark = self._mark.encode() + b" "
        for line in _lines_of(self._process.stdout, mark):
            if line.startswith(mark):
                message = _message(line[len(mark) :])
                if message is None:
                    self._noise.append("the agent wrote an answer that can't be read")
                    self._process.kill()
                    break
                self._lines.put(message)
            else:
                self._note(line)
        self._lines.put(None)

    def _gather_noise(self) -> None:
        assert self._process.stderr  # noqa: S101
        for line in _lines_of(self._process.stderr):
            self._note(line)

    def _note(self, line: bytes) -> None:
        if line.strip():
            self._noise.append(printable(line[:_MAX_NOISE_BYTES].decode(errors="replace").rstrip()))

    def _error_of_ended(self) -> AgentFailed:
        try:
            code: int | None = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = None
        self._lines.put(None)
        return AgentFailed(
            f"{self._checkout.title}'s manage.py {_end_of(code)}{self._last_output()}"
        )

    def _last_output(self) -> str:
        noise = [line for line in self._noise if _IMPORTED not in line]
        lines = [line for line in noise if not line.startswith(("  File ", "    "))]
        text = "\n".join(f"  {self._secrets.hide(line)}" for line in lines or noise)
        return f":\n{text}" if text else ""


def _lines_of(stream: IO[bytes], mark: bytes | None = None) -> Iterator[bytes]:
    """Yields the lines of a process's output. Cuts lines that are too long. Lines that begin with
    ``mark`` may be as long as an answer."""
    is_rest = False
    while line := stream.readline(_MAX_NOISE_BYTES):
        is_whole = line.endswith(b"\n")
        if not is_rest and not is_whole and mark is not None and line.startswith(mark):
            line += stream.readline(_LONGEST_ANSWER)
            is_whole = line.endswith(b"\n")
        if not is_rest:
            yield line
        is_rest = not is_whole


def _end_of(code: int | None) -> str:
    """Describes an exit code; a negative one is a signal."""
    if code is None:
        return "ended"
    if code < 0:
        return f"was killed by signal {-code}; the next run continues from here"
    return f"ended with {code}"


def _message(text: bytes) -> dict[str, Any] | None:
    """Parses a line. Returns None if it is not an answer of the agent."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    error = message.get("error") if isinstance(message, dict) else ""
    is_known = error is None or (isinstance(error, dict) and {"code", "message"} <= set(error))
    return message if is_known else None


def _is_secret(key: str, value: str) -> bool:
    """Whether a setting is secret, because of its name or because it is an address with a
    password."""
    has_secret_name = any(
        word in key for word in ("SECRET", "TOKEN", "PASSWORD", "KEY", "DATABASE_URL")
    )
    return has_secret_name or ("://" in value and "@" in value)
