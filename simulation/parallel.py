"""Runs many seeds in as many processes as there are cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from simulation.run import Simulator, simulate

#: Seed, what is broken ('' for nothing), steps, requests.
Short = tuple[int, str, int, int]


def in_short(seed: int) -> Short:
    outcome = simulate(seed)
    error = outcome.error
    why = "" if error is None else f"{type(error).__name__}: {error}"
    return seed, why, outcome.steps, outcome.requests


def simulate_many(seeds: Sequence[int], processes: int | None = None) -> Iterator[Short]:
    """Yield the outcomes, in no particular order. Each seed runs in a forked process of its own, so
    that no seed can affect another."""
    most = processes or os.cpu_count() or 1
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    with Simulator():
        gc.collect()
        gc.freeze()  # so that the copies share the memory of the imported modules
        for seed in seeds:
            if len(running) == most:
                yield from _ended(running)
            pipe, process = _begin(seed)
            running[pipe] = seed, process
        while running:
            yield from _ended(running)


def _begin(seed: int) -> tuple[Connection, BaseProcess]:
    forking = multiprocessing.get_context("fork")
    own_end, other_end = forking.Pipe(duplex=False)
    process = forking.Process(target=_tell, args=(seed, other_end), daemon=True)
    process.start()
    other_end.close()
    return own_end, process


def _tell(seed: int, pipe: Connection) -> None:
    pipe.send(in_short(seed))


def _ended(running: dict[Connection, tuple[int, BaseProcess]]) -> Iterator[Short]:
    """Outcomes of processes that have ended; waits for the first one."""
    for pipe in wait(list(running)):
        assert isinstance(pipe, Connection)
        seed, process = running.pop(pipe)
        try:
            outcome: Short = pipe.recv()
        except EOFError:
            process.join()
            outcome = seed, f"its process ended by itself: exit code {process.exitcode}", 0, 0
        process.join()
        pipe.close()
        yield outcome
