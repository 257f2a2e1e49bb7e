"""``make simulate``: runs many seeds; the exit code is 0 only when every invariant held in every
seed."""

from __future__ import annotations

import argparse
import os
import sys
import time

from simulation.parallel import simulate_many
from simulation.run import SeedResult, Simulator, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=1000, help="the number of seeds to run, default: 1000"
    )
    parser.add_argument("--first", type=int, default=1, help="the first seed, default: 1")
    parser.add_argument("--seed", type=int, help="run only this seed, and print its event log")
    parser.add_argument(
        "--processes", type=int, help="run this many seeds at a time, default: one for each core"
    )
    arguments = parser.parse_args()
    _restart_with_fixed_hashes()
    if arguments.seed is not None:
        with Simulator():
            return _print_seed(simulate(arguments.seed))
    return _simulate_seeds(
        range(arguments.first, arguments.first + arguments.seeds), arguments.processes
    )


def _restart_with_fixed_hashes() -> None:
    """Start this program again with a fixed PYTHONHASHSEED. Without it, the order of a set of
    strings differs between processes."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "simulation", *sys.argv[1:]])


def _print_seed(result: SeedResult) -> int:
    """Print the events and the outcome of one seed. Returns the exit code."""
    print(result.event_log.text())
    print()
    if result.error is None:
        size = f"{result.steps} steps, {result.requests} requests"
        print(f"seed {result.seed}: every invariant held; {size}")
        return 0
    print(f"seed {result.seed} fails: {type(result.error).__name__}: {result.error}")
    return 1


def _simulate_seeds(seeds: range, processes: int | None) -> int:
    """Simulate the seeds, and print which of them fail. Returns the exit code. processes: as for
    ``simulate_many``."""
    started, failed = time.monotonic(), []
    for number, outcome in enumerate(simulate_many(seeds, processes), 1):
        if outcome.error:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed} fails: {outcome.error}", flush=True)
        if sys.stdout.isatty() and number % 10 == 0:
            print(f"\r{number} of {len(seeds)}", end="\r", flush=True)
    seconds = time.monotonic() - started
    print(f"{len(seeds)} seeds in {seconds:.0f} s, {len(failed)} failed")
    if failed:
        print(f"To print the events of a failed seed: make simulate SEED={min(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
