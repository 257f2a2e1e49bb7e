"""Runs one command, and stops the command when the parent process ends or calls ``stop``.

``python -m usher.contract.stop_with_parent COMMAND...``: standard input is a pipe from the parent.
The pipe closes when the parent ends, even if the parent was killed with SIGKILL. The command and
its children are stopped then, so that no server keeps running and occupies a port, and no command
keeps writing to a database that the next start uses. With ``--pipe=NUMBER`` before the command,
the pipe is this file descriptor, and the command reads the standard input.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import AnyStr

#: Seconds between SIGTERM and SIGKILL, after the parent has ended.
GRACE_SECONDS = 5.0
#: Seconds that ``stop`` waits before it kills the process.
STOP_SECONDS = 10.0
_PIPE_OPTION = "--pipe="
#: Runs ``main`` of this file.
_PYTHON = (sys.executable, "-P", "-m", "usher.contract.stop_with_parent")


def start(
    command: Sequence[str], cwd: Path | None, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Starts a command that is stopped when this process ends.

    cwd: None for the folder of this process. environment: variables in addition to those of this
    process; log: the file that gets its output."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*_PYTHON, *command],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[AnyStr]) -> None:
    """Stops a process that ``start`` has started, with its children; kills the process after
    STOP_SECONDS."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, with its output as text. The command is stopped if this process
    ends earlier, and before an exception such as KeyboardInterrupt leaves this function.

    environment: variables in addition to those of this process; text: the command's standard
    input."""
    reading_end, writing_end = os.pipe()
    try:
        process = subprocess.Popen(
            [*_PYTHON, f"{_PIPE_OPTION}{reading_end}", *command],
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[reading_end],
            start_new_session=True,
        )
    except BaseException:
        os.close(writing_end)
        raise
    finally:
        os.close(reading_end)
    with process:
        try:
            output, errors = process.communicate(text)
        finally:
            os.close(writing_end)
            stop(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def main(arguments: list[str]) -> int:
    """Runs the command until it ends, or until the parent ends. Returns the command's exit code;
    128 plus the signal's number, as in shells, if a signal ended the command."""
    command, pipe, standard_input = arguments, sys.stdin.fileno(), subprocess.DEVNULL
    if arguments[0].startswith(_PIPE_OPTION):
        command, pipe = arguments[1:], int(arguments[0].removeprefix(_PIPE_OPTION))
        standard_input = sys.stdin.fileno()
    child = subprocess.Popen(command, stdin=standard_input, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(child))
    threading.Thread(target=_stop_when_parent_is_gone, args=(child, pipe), daemon=True).start()
    code = child.wait()
    # Children of the command that are still running would continue to write to its folder.
    _signal_group(child, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _stop_when_parent_is_gone(child: subprocess.Popen[bytes], pipe: int) -> None:
    # Not through sys.stdin: its lock would still be held by this thread when the interpreter exits.
    while os.read(pipe, 1024):  # returns b"" when the parent has ended
        pass
    _stop(child)
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _signal_group(child, signal.SIGKILL)


def _stop(child: subprocess.Popen[bytes]) -> None:
    _signal_group(child, signal.SIGTERM)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
