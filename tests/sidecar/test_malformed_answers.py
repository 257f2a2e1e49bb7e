"""An application that prints something other than the agent's answers, or crashes, is reported
immediately."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import checkout_of
from usher.sidecar.errors import AgentFailed
from usher.sidecar.process import Agent

#: The beginning of a program that stands for manage.py. It reads the request, whose first word is
#: the mark with which answers must begin.
START = """
import sys
out = sys.stdout.buffer
mark = sys.stdin.buffer.readline().split()[0] + b" "
"""
#: What the program prints → the code after ``START``.
BROKEN_OUTPUT = {
    "no JSON": 'out.write(mark + b"no json\\n"); out.flush(); sys.stdin.buffer.read()',
    "a list": 'out.write(mark + b"[]\\n"); out.flush(); sys.stdin.buffer.read()',
    "nested": 'out.write(mark + b"[" * 100000 + b"\\n"); out.flush(); sys.stdin.buffer.read()',
    "an answer without a result": (
        "out.write(mark + b'{\"id\": 0}\\n'); out.flush(); sys.stdin.buffer.read()"
    ),
    "an error that is a text": (
        'out.write(mark + b\'{"id": 0, "error": "x"}\\n\'); out.flush(); sys.stdin.buffer.read()'
    ),
    "a line without an end": 'out.write(b"x" * 30_000_000)',
    "an error without an end": 'sys.stderr.write("x" * 30_000_000)',
    "control characters of a terminal": r'out.write(b"\x1b]0;title\x07\x1b[2J\n")',
    "a secret of the environment": 'import os; print("key is", os.environ["SHOP_API_TOKEN"])',
    "nothing": "",
}


@pytest.mark.parametrize("case", BROKEN_OUTPUT)
def test_a_broken_agent_is_reported_immediately(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_TOKEN", "a-secret-of-the-environment")
    script = tmp_path / "manage.py"
    script.write_text(START + BROKEN_OUTPUT[case])
    checkout = checkout_of(script)
    with pytest.raises(AgentFailed) as caught:
        Agent(checkout, start_timeout=120)
    message = str(caught.value)
    assert len(message) < 5000
    assert message.replace("\n", "").isprintable()
    assert "a-secret-of" not in message
    assert "did not answer" not in message  # the error of the timeout


#: A program that answers the first request as the agent does. Tests append the code for the second
#: request.
AGENT = """
import json, os, subprocess, sys, time
out, lines = sys.stdout.buffer, sys.stdin.buffer
mark, size = lines.readline().split()
lines.read(int(size))
def send(answer, end=b"\\n"):
    out.write(mark + b" " + json.dumps(answer).encode() + end)
    out.flush()
send({"id": 0, "ok": {"version": 1}})
lines.readline()
"""
#: What the program does at the second request → the code after ``AGENT``.
FAILURES = {
    "dies in the middle of an answer": (
        'out.write(mark + b\' {"id": 1, "ok\'); out.flush(); os._exit(3)'
    ),
    "dies while a child holds its output": (
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'],"
        " stdin=subprocess.DEVNULL); os._exit(3)"
    ),
    "stops": "import signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "sends only signs of life": ("while True: send({'id': 1, 'alive': 1}); time.sleep(0.05)"),
    "answers only other requests": ("while True: send({'id': 99, 'ok': 1}); time.sleep(0.05)"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failing_agent_is_reported_and_stopped(case: str, tmp_path: Path) -> None:
    script = tmp_path / "manage.py"
    script.write_text(AGENT + FAILURES[case])
    with (
        Agent(
            checkout_of(script), start_timeout=120, silence_timeout=3, request_timeout=5
        ) as agent,
        pytest.raises(AgentFailed) as caught,
    ):
        agent.ask("about")
    message = str(caught.value)
    is_dead = case.startswith("dies")
    assert ("ended with 3" in message or "killed by signal 9" in message) == is_dead, message


def test_an_agent_that_stops_reading_is_ended(tmp_path: Path) -> None:
    """Writing the request blocks, because it is larger than a pipe's buffer."""
    script = tmp_path / "manage.py"
    # After its first answer, the agent stops instead of reading the second request.
    beginning, _, _ = AGENT.rpartition("lines.readline()")
    script.write_text(beginning + "import signal; os.kill(os.getpid(), signal.SIGSTOP)")
    with (
        Agent(checkout_of(script), start_timeout=120, silence_timeout=1) as agent,
        pytest.raises(AgentFailed, match="did not answer for 1 seconds"),
    ):
        agent.ask("write", rows=["x" * 1_000_000])


def test_output_between_answers_is_ignored(tmp_path: Path) -> None:
    script = tmp_path / "manage.py"
    # The first three lines do not begin with the mark, among them one that looks like an answer.
    script.write_text(
        AGENT
        + 'out.write(b"\\x00\\xff{}\\n{\\"id\\": 1, \\"ok\\": 2}\\n" + b"y" * 5000 + b"\\n")\n'
        + 'send({"id": 1, "ok": "the answer"})\nlines.read()'
    )
    with Agent(checkout_of(script), start_timeout=120) as agent:
        assert agent.ask("about") == "the answer"


def test_another_version_of_the_protocol_is_reported(tmp_path: Path) -> None:
    script = tmp_path / "manage.py"
    script.write_text(AGENT.replace('"version": 1', '"version": 0'))
    with pytest.raises(AgentFailed, match="version 0"):
        Agent(checkout_of(script), start_timeout=120)
