"""Seeds of ``make simulate``."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_simulation(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("seeds", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_every_invariant_holds_in_every_seed(seeds):
    result = run_simulation("--seeds", str(seeds))
    assert result.returncode == 0, result.stdout


def test_a_seed_prints_the_same_events_each_time():
    first, second = (run_simulation("--seed", "17") for _ in range(2))
    assert first.stdout == second.stdout
    assert first.returncode == 0, first.stdout
    assert "worker 1  starts, batch API" in first.stdout
    assert "no more failures from here on" in first.stdout
    assert first.stdout.rstrip().splitlines()[-1].startswith("seed 17: every invariant held; ")
