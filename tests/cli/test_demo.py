"""``usher demo``: the demo of both editions, and its messages if it can't start."""

import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from rich.console import Console

from usher.cli.demo.command import _print_questions
from usher.cli.demo.credentials import FILE_NAME, Credentials
from usher.cli.demo.errors import DemoError
from usher.cli.demo.pair import Pair
from usher.cli.demo.trouble.cases import CASES, LEARNERS
from usher.contract import exits
from usher.contract.editions import EDITIONS

pytestmark = pytest.mark.slow

USHER_DEMO = [sys.executable, "-m", "usher.cli.main", "demo"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs ``usher demo`` with these arguments to its end."""
    return subprocess.run([*USHER_DEMO, *arguments], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(("edition", "trouble"), [("mitxonline", ["--trouble"]), ("mitxpro", [])])
def test_the_demo_works_and_prints_one_json_object(
    edition: str, trouble: list[str], tmp_path: Path
) -> None:
    # Generated secrets and ids may contain any of these characters, also as the first one.
    unusual_values = {field.name: "-_" + secrets.token_urlsafe(30) for field in fields(Credentials)}
    (tmp_path / FILE_NAME).write_text(json.dumps(unusual_values))
    result = run("--once", "--json", "--edition", edition, "--home", str(tmp_path), *trouble)
    report = json.loads(result.stdout)
    failed = [f"{step['id']}: {step['detail']}" for step in report["steps"] if not step["ok"]]
    assert (result.returncode, failed) == (0, []), "\n".join([*failed, result.stderr[-2000:]])
    assert report["ok"] is True
    assert report["edition"] == edition
    assert all(step["ok"] and step["seconds"] >= 0 and step["detail"] for step in report["steps"])
    steps = [step["id"] for step in report["steps"]]
    trouble_steps = ["trouble-before", "trouble-break", "trouble-seen"] if trouble else []
    expected = [
        *("sign-up", "lms-account", "sign-in-lms", "dashboard"),
        *("enroll", "sync-runs", "repair", "sign-out"),
        *trouble_steps,
    ]
    assert steps[-len(expected) :] == expected
    assert len(report.get("trouble", [])) == (30 if trouble else 0)
    if trouble:
        assert "30 learners write to support" in result.stderr


def test_the_thirty_cases_are_documented_and_a_missing_case_is_reported() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "trouble.md").read_text()
    assert len({case.learner for case in CASES}) == len(CASES) == 30
    for case in CASES:
        assert case.learner in LEARNERS
        assert case.expected
        assert f"| `{case.email}` | {case.says} |" in page
        assert f"| `{case.learner}` | {case.cause} | {case.repair} |" in page
        case.require_expected(case.expected)
        # An observed state without the expected values is reported.
        with pytest.raises(DemoError, match=case.learner):
            case.require_expected({})


def unwrapped(text: str) -> str:
    return " ".join(text.split())


def test_a_demo_whose_port_is_taken_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        result = run("--once", "--home", str(tmp_path), "--application-port", port)
    assert result.returncode == 2
    assert f"Port {port}, which MITx Online needs, is taken. Nothing was started." in unwrapped(
        result.stderr
    )
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]  # nothing was set up


def test_the_same_port_for_application_and_lms_is_refused(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    result = run("--home", str(tmp_path), "--application-port", port, "--lms-port", port)
    assert result.returncode == 2
    assert f"can't both have the port {port}. Nothing was started." in unwrapped(result.stderr)


def test_a_home_that_is_no_folder_gives_a_message_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--once", "--json", "--home", str(tmp_path / "file"))
    assert result.returncode == 1
    assert "The folder of the demo can't be used" in json.loads(result.stdout)["error"]
    assert result.stderr == ""


def test_the_error_of_a_failing_management_command_has_no_traceback(tmp_path: Path) -> None:
    pair = Pair(tmp_path, EDITIONS["mitxonline"])
    pair.application_home.mkdir()
    (pair.application_home / "campus.sqlite3").write_text("not a database")
    with pytest.raises(DemoError) as raised:
        pair.manage_application("migrate")
    assert "file is not a database" in str(raised.value)
    assert f"move {tmp_path} away" in str(raised.value)
    assert "Traceback" not in str(raised.value)


def test_the_option_json_without_once_is_refused() -> None:
    result = run("--json")
    assert result.returncode == 2
    assert "--json needs --once" in result.stderr


def test_the_demo_keeps_running_refuses_a_second_start_stops_on_interrupt_and_keeps_its_data(
    tmp_path: Path,
) -> None:
    ports = ["--home", str(tmp_path)]
    for option in ("--application-port", "--lms-port"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports += [option, str(free.getsockname()[1])]
    first = RunningDemo(ports)
    start_while_running = run(*ports)
    assert start_while_running.returncode == 2
    assert "A demo is already running" in start_while_running.stderr
    # The printed command for manage.py works while the demo runs.
    manage_line = next(line for line in first.output.splitlines() if line.startswith("  manage.py"))
    _, shell_command = manage_line.split(maxsplit=1)
    drift_command = shell_command.replace(" shell", " drift")
    assert "✓ no differences" in subprocess.check_output(["sh", "-c", drift_command], text=True)
    # So does the one that checks the connection.
    doctor_line = next(line for line in first.output.splitlines() if line.startswith("  doctor"))
    _, doctor_command = doctor_line.split(maxsplit=1)
    assert "Next: nothing to do" in subprocess.check_output(["sh", "-c", doctor_command], text=True)
    assert first.interrupt() == 0
    assert "Both servers are down" in first.output
    # --provision can also be called while no demo runs.
    restored = run("--provision", "--home", str(tmp_path))
    assert restored.returncode == 0, restored.stderr
    second = RunningDemo(ports)
    assert second.interrupt() == 0
    assert "data of the earlier start" in second.output
    assert "sent mail" in second.output  # the label of the folder with the mails
    for name in ("application", "lms"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_an_interrupted_demo_with_once_deletes_its_temporary_folder(tmp_path: Path) -> None:
    first_step = "application-settings"
    demo = RunningDemo(["--once"], wait_for=first_step, TMPDIR=str(tmp_path))
    assert list(tmp_path.glob("usher-demo-*"))
    assert demo.interrupt() == exits.INTERRUPTED
    assert "the temporary folder is deleted" in demo.output
    assert not list(tmp_path.glob("usher-demo-*"))


class RunningDemo:
    """A process of ``usher demo``. output: the output so far."""

    def __init__(
        self,
        arguments: list[str],
        *,
        wait_for: str = "Ctrl-C stops everything",
        **environment: str,
    ) -> None:
        """Starts the demo and waits until its output contains ``wait_for``. Raises AssertionError
        if the demo ends before that."""
        self.output = ""
        self._process = subprocess.Popen(
            [*USHER_DEMO, *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self._process.stdout
        for line in self._process.stdout:
            self.output += line
            if wait_for in line:
                return
        raise AssertionError(f"the demo did not print {wait_for!r}:\n{self.output}")

    def interrupt(self) -> int:
        """Ends the demo as Ctrl-C does, and returns its exit code."""
        self._process.send_signal(signal.SIGINT)
        remaining_output, _ = self._process.communicate(timeout=60)
        self.output += remaining_output
        return self._process.returncode


def test_the_questions_of_learners_fit_a_terminal() -> None:
    out = io.StringIO()
    _print_questions(Console(file=out, width=80))
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80
