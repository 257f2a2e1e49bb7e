"""An application that prints rubbish in the agent's place, or dies: said at once, in few words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkout import checkout_of
from usher.sidecar.errors import AgentFailed
from usher.sidecar.process import Agent

START = """
import sys
out = sys.stdout.buffer
mark = sys.stdin.buffer.readline().split()[0] + b" "
"""
RUBBISH = {
    "no JSON": 'out.write(mark + b"no json\\n"); out.flush(); sys.stdin.buffer.read()',
    "a list": 'out.write(mark + b"[]\\n"); out.flush(); sys.stdin.buffer.read()',
    "nested": 'out.write(mark + b"[" * 100000 + b"\\n"); out.flush(); sys.stdin.buffer.read()',
    "nothing in it": "out.write(mark + b'{\"id\": 0}\\n'); out.flush(); sys.stdin.buffer.read()",
    "an error that is a text": (
        'out.write(mark + b\'{"id": 0, "error": "x"}\\n\'); out.flush(); sys.stdin.buffer.read()'
    ),
    "a line without an end": 'out.write(b"x" * 30_000_000)',
    "an error without an end": 'sys.stderr.write("x" * 30_000_000)',
    "what steers a terminal": r'out.write(b"\x1b]0;title\x07\x1b[2J\n")',
    "a secret of the environment": 'import os; print("key is", os.environ["SHOP_API_TOKEN"])',
    "nothing": "",
}


@pytest.mark.parametrize("what", RUBBISH)
def test_it_is_said_at_once(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_API_TOKEN", "a-secret-of-the-environment")
    script = tmp_path / "manage.py"
    script.write_text(START + RUBBISH[what])
    checkout = checkout_of(script)
    with pytest.raises(AgentFailed) as caught:
        Agent(checkout, start_timeout=120)
    words = str(caught.value)
    assert len(words) < 5000
    assert words.replace("\n", "").isprintable()
    assert "a-secret-of" not in words
    assert "did not answer" not in words
