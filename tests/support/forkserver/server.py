"""Forks Python processes that have imported already what most of them need.

``python server.py FOLDER MODULE …``: listens on ``FOLDER/socket`` for ``bin/python`` there (see
``launcher.py``), until the process whose number is in ``FOLDER/../owner`` is gone.
"""

import gc
import importlib
import io
import marshal
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_INTEGER = 4
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Asked:
    """One call of ``python``. words: its arguments; streams: its standard streams."""

    words: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    streams: list[int]


class Server:
    def __init__(self, folder: Path, modules: list[str]) -> None:
        self._owner = int((folder.parent / "owner").read_text())
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / "socket"))
        self._listener.listen(256)
        for module in modules:
            importlib.import_module(module)
        gc.collect()
        gc.freeze()
        self._ended, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the default one wakes nobody
        signal.set_wakeup_fd(self._woken.fileno())
        self._waiting: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        for each in (self._listener, self._ended):
            self._selector.register(each, selectors.EVENT_READ)

    def serve(self) -> Asked | None:
        """Returns in each process that was forked, with what it has to do; at last None here."""
        while self._owner_is_there():
            for key, _ in self._selector.select(_SECONDS_BETWEEN_LOOKS):
                if key.fileobj is self._listener:
                    connection, _ = self._listener.accept()
                    with suppress(OSError, EOFError, ValueError):
                        asked = _receive(connection)
                        if self._forked(connection, asked):
                            return asked
                elif key.fileobj is self._ended:
                    self._ended.recv(4096)
                    self._report_ends()
                else:  # whoever stood for the process was killed
                    self._forget(key.data)
                    with suppress(ProcessLookupError):
                        os.killpg(key.data, signal.SIGKILL)
        return None

    def _owner_is_there(self) -> bool:
        try:
            os.kill(self._owner, 0)
        except ProcessLookupError:
            return False
        return True

    def _forked(self, connection: socket.socket, asked: Asked) -> bool:
        if process := os.fork():
            with suppress(ProcessLookupError, PermissionError):
                os.setpgid(process, process)
            for stream in asked.streams:
                os.close(stream)
            self._waiting[process] = connection
            self._selector.register(connection, selectors.EVENT_READ, process)
            _send(connection, process)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        others = [self._listener, self._ended, self._woken, *self._waiting.values()]
        for each in (connection, *others):
            each.close()
        os.setpgid(0, 0)
        return True

    def _report_ends(self) -> None:
        for process, status in _ended():
            if connection := self._waiting.get(process):
                self._forget(process)
                _send(connection, status)
                connection.close()

    def _forget(self, process: int) -> None:
        self._selector.unregister(self._waiting.pop(process))


def _ended() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found


def _send(connection: socket.socket, number: int) -> None:
    with suppress(OSError):
        connection.sendall(number.to_bytes(_INTEGER, "big"))


def _receive(connection: socket.socket) -> Asked:
    size, streams, _, _ = socket.recv_fds(connection, _INTEGER, 3)
    left, data = int.from_bytes(size, "big"), b""
    while left > len(data):
        part = connection.recv(left - len(data))
        if not part:
            raise EOFError
        data += part
    return Asked(*marshal.loads(data), list(streams))


def become(asked: Asked, executable: str) -> None:
    """Everything that a new process has from whoever started it."""
    os.umask(asked.umask)
    os.chdir(asked.folder)
    os.environ.clear()
    os.environ.update(asked.environment)
    for number, stream in enumerate(asked.streams):
        os.dup2(stream, number)
        os.close(stream)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _stream(1, "strict", unbuffered)
    sys.stderr = _stream(2, "backslashreplace", unbuffered)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    sys.executable = executable
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = [str(Path.cwd() / part) for part in path.split(os.pathsep) if part]
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _stream(number: int, errors: str, unbuffered: bool) -> io.TextIOWrapper:
    lines = number == 2 or os.isatty(number)
    return open(
        number,
        "w",
        encoding="utf-8",
        errors=errors,
        buffering=1 if lines or unbuffered else -1,
        closefd=False,
    )


def run(words: list[str]) -> None:
    """As ``python`` does with these arguments."""
    kind, *rest = words
    if kind == "-B":
        sys.dont_write_bytecode = True
        run(rest)
    elif kind == "-m":
        sys.argv = rest
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind in ("-c", "-"):
        text, arguments = (rest[0], rest[1:]) if kind == "-c" else (sys.stdin.read(), rest)
        sys.argv = [kind, *arguments]
        sys.path.insert(0, "")
        exec(compile(text, "<string>", "exec"), _main_module())
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(kind).resolve().parent))
        runpy.run_path(kind, run_name="__main__")


def _main_module() -> dict[str, Any]:
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    return module.__dict__


def main(folder: Path, modules: list[str]) -> None:
    asked = Server(folder, modules).serve()
    if asked is None:
        return
    become(asked, str(folder / "bin/python"))
    run(asked.words)


if __name__ == "__main__":
    sys.path.pop(0)  # what is asked for has its own
    main(Path(sys.argv[1]), sys.argv[2:])
