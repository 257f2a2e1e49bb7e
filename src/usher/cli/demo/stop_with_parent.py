"""Runs one command and stops it when the parent process ends.

``python -m usher.cli.demo.stop_with_parent COMMAND...``: standard input is a pipe from the parent.
When it closes, also because of a kill -9 of the parent, the command and its children are stopped.
So no server keeps running and using a port.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

GRACE_SECONDS = 5.0


def main(command: list[str]) -> int:
    """Runs the command until it ends or the parent does. Returns its exit code."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(child))
    threading.Thread(target=_stop_when_parent_is_gone, args=(child,), daemon=True).start()
    code = child.wait()
    # Child processes that the server did not stop would continue to write to its folder.
    _signal_group(child, signal.SIGKILL)
    return code


def _stop_when_parent_is_gone(child: subprocess.Popen[bytes]) -> None:
    # Not through sys.stdin: its lock would still be held by this thread when the interpreter exits.
    while os.read(sys.stdin.fileno(), 1024):
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
