"""Simulates many seeds in as many processes as there are cores."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import NamedTuple

from simulation.run import Simulator, simulate


class SeedOutcome(NamedTuple):
    """error: '' if every invariant held."""

    seed: int
    error: str


def _simulate_and_send(seed: int, pipe: Connection) -> None:
    """The work of one process: simulates the seed and sends the outcome through the pipe."""
    error = simulate(seed).error
    error_text = "" if error is None else f"{type(error).__name__}: {error}"
    pipe.send(SeedOutcome(seed, error_text))


def simulate_many(seeds: Sequence[int], processes: int | None = None) -> Iterator[SeedOutcome]:
    """Yield the outcomes, in no particular order. Each seed is simulated in a forked process of its
    own, so that no seed can affect another one. processes: the most at a time, None for one for
    each core."""
    max_processes = processes or os.cpu_count() or 1
    #: The pipe from which a process's outcome is read → the process's seed, and the process.
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    with Simulator():
        gc.collect()
        gc.freeze()  # so that the forked processes share the memory of the imported modules
        for seed in seeds:
            if len(running) == max_processes:
                yield from _results_of_ended(running)
            pipe, process = _start(seed)
            running[pipe] = seed, process
        while running:
            yield from _results_of_ended(running)


def _start(seed: int) -> tuple[Connection, BaseProcess]:
    """Starts the process of a seed. Returns the pipe that gets its outcome, and the process."""
    context = multiprocessing.get_context("fork")
    receiving_end, sending_end = context.Pipe(duplex=False)
    process = context.Process(target=_simulate_and_send, args=(seed, sending_end), daemon=True)
    process.start()
    sending_end.close()  # so that reading ends with EOFError if the process ends without an outcome
    return receiving_end, process


def _results_of_ended(running: dict[Connection, tuple[int, BaseProcess]]) -> Iterator[SeedOutcome]:
    """Outcomes of processes that have ended; waits for the first one."""
    for pipe in wait(list(running)):
        assert isinstance(pipe, Connection)
        seed, process = running.pop(pipe)
        try:
            outcome: SeedOutcome = pipe.recv()
        except EOFError:
            process.join()
            error = f"its process ended by itself: exit code {process.exitcode}"
            outcome = SeedOutcome(seed, error)
        process.join()
        pipe.close()
        yield outcome
