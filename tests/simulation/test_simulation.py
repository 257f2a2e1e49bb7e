"""``make simulate`` simulates many seeds, or prints the events of one seed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_simulation(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program that ``make simulate`` runs, with these options."""
    command = [sys.executable, "-m", "simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("seeds", [10, pytest.param(300, marks=pytest.mark.slow)])
def test_every_invariant_holds_in_every_seed(seeds):
    result = run_simulation("--seeds", str(seeds))
    assert result.returncode == 0, result.stdout


def test_a_seed_prints_the_same_events_each_time():
    result, repeated_result = (run_simulation("--seed", "17") for _ in range(2))
    assert result.stdout == repeated_result.stdout
    assert result.returncode == 0, result.stdout
    assert "worker 1  starts, batch API" in result.stdout
    assert "no more failures from here on" in result.stdout
    last_line = result.stdout.rstrip().splitlines()[-1]
    assert last_line.startswith("seed 17: every invariant held; ")
