"""What ``make`` prints before its long steps."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_outer_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """``make test`` passes its options on to every ``make`` it starts, which then prints more."""
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("goal", "is_demo"), [("demo", True), ("install", False)])
def test_make_says_before_the_virtual_environment_how_long_the_first_demo_takes(
    goal: str, is_demo: bool, tmp_path: Path
) -> None:
    # Only prints the commands: there is no virtual environment in this folder.
    arguments = ["make", "--dry-run", goal, f"VENV={tmp_path / 'venv'}"]
    output = subprocess.check_output(arguments, cwd=ROOT, text=True)
    before, _, _ = output.partition(" -m venv ")
    assert f"Creating {tmp_path / 'venv'} ..." in before
    assert ("about three minutes in all" in before) is is_demo


def test_make_says_before_the_installation_how_long_it_takes_and_afterwards_how_long_it_took(
    tmp_path: Path,
) -> None:
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho pip: "$@"\n')
    python.chmod(0o755)
    stamp = f"{tmp_path}/venv/.installed"
    output = subprocess.check_output(["make", stamp, f"VENV={tmp_path}/venv"], cwd=ROOT, text=True)
    lines = output.splitlines()
    assert [line.split()[0] for line in lines] == ["Installing", "pip:", "Installed"] * 2
    assert "takes a minute or two" in lines[0]
    assert lines[1].endswith(" --constraint requirements.lock --editable .[campus,embedded]")
    assert re.fullmatch(r"Installed in \d+ s\.", lines[2])
