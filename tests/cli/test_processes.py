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

#: A server that answers at the port in its first argument.
SERVER_SCRIPT = """
import http.server, sys
address = ("127.0.0.1", int(sys.argv[1]))
http.server.ThreadingHTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def eventually(condition: Callable[[], bool], seconds: float = 90) -> bool:
    """Whether the condition becomes true within ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def sample_server(folder: Path, port: int, program: str = SERVER_SCRIPT) -> ServerProcess:
    return ServerProcess(
        name="sample",
        command=[sys.executable, "-c", program, str(port)],
        folder=folder,
        environment={},
        log=folder / "sample.log",
        ready_url=f"http://127.0.0.1:{port}/",
    )


def test_a_server_listens_when_it_is_ready_and_no_longer_after_stop(tmp_path: Path) -> None:
    port = free_port()
    running = sample_server(tmp_path, port)
    running.start()
    try:
        running.wait_until_ready()
        assert listens(port)
    finally:
        running.stop()
    assert not listens(port)


def test_the_error_about_a_server_that_ended_has_the_end_of_its_log(tmp_path: Path) -> None:
    failing = sample_server(tmp_path, free_port(), "import sys; sys.exit('no database today')")
    failing.start()
    with pytest.raises(
        DemoError,
        match=r"(?s)by itself with exit code 1\..*no database today.*Start this command again",
    ):
        failing.wait_until_ready()
    failing.stop()
    assert "Fatal Python error" not in failing.log.read_text()


def test_the_error_about_a_crashed_server_has_the_exception_of_this_start(
    tmp_path: Path,
) -> None:
    (tmp_path / "sample.log").write_text("the output of an earlier start\n")
    (tmp_path / "own.py").write_text("FOO = (\n")
    failing = sample_server(tmp_path, free_port(), "import own")
    failing.start()
    with pytest.raises(DemoError, match=r"cause: own\.py, line 1: SyntaxError: ") as raised:
        failing.wait_until_ready()
    failing.stop()
    assert "earlier start" not in str(raised.value)
    assert "Traceback" not in str(raised.value)


def test_the_error_about_a_killed_server_names_the_signal(tmp_path: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    failing = sample_server(tmp_path, free_port(), program)
    failing.start()
    with pytest.raises(DemoError, match=r"because of the signal SIGKILL\. It wrote nothing to "):
        failing.wait_until_ready()
    failing.stop()


def test_the_error_about_a_taken_port_names_the_option_for_another_port() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(
            DemoError, match=f"Port {port}, which the LMS needs, is taken.*--lms-port"
        ):
            require_free_port(port, "the LMS", "--lms-port")
    require_free_port(port, "the LMS", "--lms-port")


def test_a_server_stops_when_its_parent_is_killed(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import time\nfrom pathlib import Path\n"
        "from tests.cli.test_processes import sample_server\n"
        f"server = sample_server(Path({str(tmp_path)!r}), {port})\n"
        "server.start()\nserver.wait_until_ready()\nprint('up', flush=True)\n"
        "time.sleep(60)\n"  # until it is killed
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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_step_in_the_project_stops_when_usher_dev_is_killed(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Otherwise the next start would migrate the project's database at the same time."""
    # manage.py shell: writes its process id, and runs until it is stopped.
    (tmp_path / "manage.py").write_text(
        "import os, time\nfrom pathlib import Path\n"
        "Path('new').write_text(str(os.getpid()))\nPath('new').rename('step')\n"
        "time.sleep(600)\n"
    )
    program = (
        "from pathlib import Path\n"
        "from usher.cli.demo.command import stopped_by_signals\n"
        "from usher.cli.dev.project import Project\n"
        f"with stopped_by_signals():\n    Project(Path({str(tmp_path)!r})).ask('prepare')\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        assert eventually((tmp_path / "step").exists)
    finally:
        parent.send_signal(number)
        parent.wait()
    step = int((tmp_path / "step").read_text())
    try:
        assert eventually(lambda: not is_running(step), seconds=20)
    finally:
        if is_running(step):
            os.kill(step, signal.SIGKILL)


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
