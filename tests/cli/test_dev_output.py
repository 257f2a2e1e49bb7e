"""The last lines of ``usher dev``."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from usher.cli.dev.command import _run_steps, _stay_up
from usher.cli.dev.project_with_lms import DevLearner


def test_the_last_lines_name_the_kind_of_login_for_the_sign_in_page(tmp_path: Path) -> None:
    def stop() -> str:
        raise KeyboardInterrupt

    servers: Any = SimpleNamespace(
        home=tmp_path / ".usher/dev",
        environment_file=tmp_path / ".usher/dev/env",
        project=SimpleNamespace(name="shop", folder=tmp_path),
        url="http://localhost:8000",
        lms_url="http://127.0.0.1:18000",
        learner=DevLearner("ann@example.org", "p", login_name="e-mail address"),
        credentials=SimpleNamespace(superuser_password="p"),
        follow_changes=stop,
    )
    console = Console(record=True, width=200)
    with pytest.raises(KeyboardInterrupt):
        _stay_up(servers, console)
    output = " ".join(console.export_text().split())
    assert "asks for the learner's e-mail address and password" in output


def test_a_step_is_named_before_it_is_done() -> None:
    console = Console(file=io.StringIO(), width=80)
    output_at_begin = []

    def act() -> str:
        output_at_begin.append(console.file.getvalue())  # type: ignore[attr-defined]
        return "an embedded LMS"

    _run_steps([("lms", act)], [], console)
    assert output_at_begin == ["  … begun  lms\n"]
    last_line = console.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert last_line.split() == ["✓", "ok", "lms", "0.0", "s", "an", "embedded", "LMS"]
