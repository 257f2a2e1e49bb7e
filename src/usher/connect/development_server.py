"""Starts an application's development server for the checks, if nothing serves it yet.

An application without containers can't run before connect has written its ``.env``. So connect
starts it for the checks itself, and stops it afterwards.
"""

import ipaddress
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from usher.connect import checks
from usher.connect.application.target import TargetApplication
from usher.connect.errors import ToolFailed
from usher.connect.process import last_lines
from usher.connect.saved_state import state_home
from usher.contract import stop_with_parent


@dataclass(frozen=True)
class StartedServer:
    """A development server that connect has started.

    command: as the operator types it in a shell; open_to_all: whether it listens on every
    interface.
    """

    command: str
    log: Path
    open_to_all: bool


@contextmanager
def running(
    target: TargetApplication,
    *,
    for_containers: bool,
    announce: Callable[[StartedServer], None] = lambda _: None,
) -> Iterator[StartedServer | None]:
    """Serves the application until the block ends. Yields None if it is served already or can't be
    served.

    for_containers: whether containers must reach it; if not, the server listens on the loopback
    address only. announce: called before the wait for the server's first answer. Raises ToolFailed
    if the server ends or doesn't answer.
    """
    host = _free_address(target)
    if not host:
        yield None
        return
    if for_containers:
        host = "0.0.0.0"  # noqa: S104 - the LMS is in a container
    arguments = ("runserver", "--noreload", f"{host}:{urlsplit(target.own_url).port}")
    log = state_home() / f"{target.name}-server.log"
    server = StartedServer(target.manage.runnable(*arguments), log, open_to_all=for_containers)
    announce(server)
    process = target.manage.start(*arguments, log=server.log)
    try:
        checks.wait_for_own_server(target, lambda: _require_running(process, target, server))
        yield server
    finally:
        stop_with_parent.stop(process)


def _free_address(target: TargetApplication) -> str:
    """Returns the loopback address at which the application can be served; '' if it runs in
    containers or elsewhere, if its own address is not http with a port, or if the port is in
    use."""
    parts = urlsplit(target.own_url)
    if not target.checkout.runs_here:
        return ""
    if parts.scheme != "http" or not parts.port or not parts.hostname:
        return ""
    host = _loopback(parts.hostname)
    return "" if not host or _has_listener(parts.hostname, parts.port) else host


def _loopback(host: str) -> str:
    """Returns the loopback address of ``host``, as ``runserver`` takes it; '' for another machine's
    name. Prefers an IPv4 address, which need not be 127.0.0.1."""
    try:
        results = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return ""
    # A socket address begins with the IP address.
    addresses = [ipaddress.ip_address(socket_address[0]) for *_, socket_address in results]
    loopbacks = sorted(
        (address for address in addresses if address.is_loopback),
        key=lambda address: address.version,
    )
    if not loopbacks:
        return ""
    first = loopbacks[0]
    return f"[{first}]" if first.version == 6 else str(first)


def _has_listener(host: str, port: int) -> bool:
    """Whether a program uses the port, also if the program doesn't answer."""
    try:
        socket.create_connection((host, port), timeout=checks.TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # the port is in use, but nothing answers there
    return True


def _require_running(
    process: "subprocess.Popen[bytes]", target: TargetApplication, started: StartedServer
) -> None:
    """Raises ToolFailed, with the end of the log, if the server has ended."""
    if process.poll() is not None:
        output = target.manage.hide(started.log.read_text(errors="replace"))
        raise ToolFailed(
            f"{target.checkout.title} does not start: `{started.command}` ended with "
            f"{process.returncode}; the end of {started.log}:\n{last_lines(output)}"
        )
