"""Servers of the demo: taken ports, readiness, errors at the start, and their end when the demo
ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from usher.cli.demo.errors import DemoError
from usher.cli.demo.processes import ServerProcess, free_port, require_free_port

SERVE = """
import http.server, sys
address = ("127.0.0.1", int(sys.argv[1]))
http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def eventually(look: Callable[[], bool], seconds: float = 90) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if look():
            return True
        time.sleep(0.02)
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def server(folder: Path, port: int, program: str = SERVE) -> ServerProcess:
    return ServerProcess(
        name="sample",
        command=[sys.executable, "-c", program, str(port)],
        folder=folder,
        environment={},
        log=folder / "sample.log",
        ready_url=f"http://127.0.0.1:{port}/",
    )


def test_a_server_is_up_when_it_answers_and_gone_after_stop(tmp_path: Path) -> None:
    port = free_port()
    running = server(tmp_path, port)
    running.start()
    try:
        running.wait_until_ready()
        assert listens(port)
    finally:
        running.stop()
    assert not listens(port)


def test_a_server_that_dies_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    dying = server(tmp_path, free_port(), "import sys; sys.exit('no database today')")
    dying.start()
    with pytest.raises(
        DemoError,
        match=r"(?s)by itself with exit code 1\..*no database today.*Start this command again",
    ):
        dying.wait_until_ready()
    dying.stop()
    assert "Fatal Python error" not in dying.log.read_text()


def test_a_server_that_dies_of_an_error_is_named_with_the_error_of_this_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "sample.log").write_text("the output of an earlier start\n")
    (tmp_path / "own.py").write_text("FOO = (\n")
    dying = server(tmp_path, free_port(), "import own")
    dying.start()
    with pytest.raises(DemoError, match=r"cause: own\.py, line 1: SyntaxError: ") as caught:
        dying.wait_until_ready()
    dying.stop()
    assert "earlier start" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_server_that_was_killed_is_named_with_the_signal(tmp_path: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    dying = server(tmp_path, free_port(), program)
    dying.start()
    with pytest.raises(DemoError, match=r"because of the signal SIGKILL\. It wrote nothing to "):
        dying.wait_until_ready()
    dying.stop()


def test_a_taken_port_is_named_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            DemoError, match=f"Port {port}, which the LMS needs, is taken.*--lms-port"
        ):
            require_free_port(port, "the LMS", "--lms-port")
    require_free_port(port, "the LMS", "--lms-port")


def test_a_killed_parent_leaves_no_server_behind(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import sys,time;from pathlib import Path;"
        "from tests.cli.test_processes import server;"
        f"s=server(Path({str(tmp_path)!r}),{port});s.start();s.wait_until_ready();"
        "print('up',flush=True);time.sleep(60)"
    )
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"up\n"
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert eventually(lambda: not listens(port))
