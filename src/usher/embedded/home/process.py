"""Runs an LMS as a separate process within a block."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from usher.contract.paths import LmsPath
from usher.embedded.home.folder import FolderError, environment

#: Seconds for a started server to answer.
_START_SECONDS = 180.0
#: Seconds between two checks whether the server answers.
_POLL_SECONDS = 0.03
#: Seconds for the server to end its requests; then it is killed.
_STOP_SECONDS = 10.0


def free_port() -> int:
    """A TCP port that no program of this machine listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        _, port = listener.getsockname()
        return int(port)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes ``open`` raise HTTPError for a redirect instead of following it."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def _is_answering(address: str) -> bool:
    """Whether a server answers at this address. Any status below 500 counts, because a plugin may
    redirect anonymous visitors of the heartbeat page."""
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        opener.open(address + LmsPath.HEARTBEAT, timeout=2).close()
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def _wait_until_answering(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Raises FolderError, with the end of ``log``, if the process ends or needs too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not _is_answering(address):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            raise FolderError(f"the LMS does not answer at {address}:\n{tail}")
        time.sleep(_POLL_SECONDS)


@contextmanager
def running_lms(
    folder: Path, port: int = 0, variables: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve the LMS in ``folder`` within the block; yields its URL. The output goes to
    ``server.log`` in the folder. port: 0 for a free port. variables: added to the environment of
    the process.

    Raises FolderError when the server does not start.
    """
    port = port or free_port()
    address = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    command = [sys.executable, "-m", "usher.embedded", "serve", str(folder), "--port", str(port)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**environment(folder), **(variables or {})},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_answering(process, address, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
