"""Many seeds, by as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence

from simulation.run import Simulator, simulate

#: Seed, what is broken ('' for nothing), steps, requests.
Short = tuple[int, str, int, int]


def in_short(seed: int) -> Short:
    outcome = simulate(seed)
    error = outcome.error
    why = "" if error is None else f"{type(error).__name__}: {error}"
    return seed, why, outcome.steps, outcome.requests


def simulate_many(seeds: Sequence[int], processes: int | None = None) -> Iterator[Short]:
    """The outcomes, in no order."""
    processes = processes or os.cpu_count() or 1
    with Simulator():
        if processes == 1:
            yield from map(in_short, seeds)
            return
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            yield from pool.imap_unordered(in_short, seeds, chunksize=5)
